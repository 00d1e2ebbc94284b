/**
 * The microphone and the camera of a call element. Owns their tracks: a switched-off microphone is
 * silent, and a switched-off camera is released. Does not know the room.
 */

/** @typedef {'audio' | 'video'} Kind */

export class CallDevices {
  /** What is captured now. @type {MediaStream} */
  stream = new MediaStream();
  #onTrack;

  /** @param {(kind: Kind, track: MediaStreamTrack | null) => void} onTrack another track, or none, is to be sent */
  constructor(onTrack) {
    this.#onTrack = onTrack;
  }

  /** Whether this kind is on. @param {Kind} kind */
  isOn(kind) {
    return this.#track(kind)?.enabled ?? false;
  }

  /**
   * Asks for both devices at once, and for each alone if that fails.
   *
   * @returns {Promise<unknown>} why one or both are missing
   */
  async open() {
    const error = await this.#request(['audio', 'video']);
    if (error) await Promise.all([this.#request(['audio']), this.#request(['video'])]);
    return error;
  }

  /**
   * Switches a device on or off.
   *
   * @param {Kind} kind
   * @returns {Promise<unknown>} why it stays off
   */
  async toggle(kind) {
    const track = this.#track(kind);
    if (!track) return this.#request([kind]);
    if (kind === 'audio') track.enabled = !track.enabled;
    else this.#remove(track);
    return undefined;
  }

  /** Releases both. */
  stop() {
    for (const track of this.stream.getTracks()) this.#remove(track);
  }

  /** @param {Kind} kind */
  #track(kind) {
    return this.stream.getTracks().find((track) => track.kind === kind);
  }

  /** @param {Kind[]} kinds @returns {Promise<unknown>} */
  async #request(kinds) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(Object.fromEntries(kinds.map((kind) => [kind, true])));
      for (const track of stream.getTracks()) this.#add(track);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** @param {MediaStreamTrack} track */
  #add(track) {
    this.stream.addTrack(track);
    // The device was unplugged.
    track.addEventListener('ended', () => this.#remove(track));
    this.#onTrack(/** @type {Kind} */ (track.kind), track);
  }

  /** @param {MediaStreamTrack} track */
  #remove(track) {
    track.stop();
    this.stream.removeTrack(track);
    this.#onTrack(/** @type {Kind} */ (track.kind), null);
  }
}
