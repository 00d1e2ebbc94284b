/**
 * The tracks that this side receives over one connection, kept by their transceivers. Owns the
 * streams that hold them. A track is dead when its transceiver no longer receives.
 */

export class RemoteTracks {
  /** All live tracks; the stream stays the same. @readonly */
  stream = new MediaStream();
  /** Track → the streams that the sender has put it in. @type {Map<MediaStreamTrack, readonly MediaStream[]>} */
  #streams = new Map();
  #pc;
  #options;

  /**
   * @param {RTCPeerConnection} pc
   * @param {{ onTrack: (event: RTCTrackEvent) => void, onChange: () => void, signal: AbortSignal }} options
   *   `onChange`: a track was added or removed
   */
  constructor(pc, options) {
    this.#pc = pc;
    this.#options = options;
    this.connect(pc);
  }

  /** Receives from this connection only. @param {RTCPeerConnection} pc */
  connect(pc) {
    const { onTrack, onChange, signal } = this.#options;
    const onEnded = () => this.#removeDead();
    this.#pc = pc;
    this.#removeDead();
    pc.addEventListener('track', (event) => {
      this.#streams.set(event.track, event.streams);
      this.stream.addTrack(event.track);
      event.track.addEventListener('ended', onEnded, { signal });
      onTrack(event);
      onChange();
    }, { signal });
    pc.addEventListener('signalingstatechange', onEnded, { signal });
  }

  /** Stream id → the stream as the sender has grouped it, with at least one live track. */
  get streams() {
    const streams = [...this.#streams.values()].flat();
    return new Map(streams.map((stream) => [stream.id, stream]));
  }

  /** In `stable`, the directions say which tracks still come. */
  #removeDead() {
    if (this.#pc.signalingState !== 'stable' || this.#streams.size === 0) return;
    const receives = (/** @type {RTCRtpTransceiver} */ { currentDirection }) => /recv/.test(currentDirection ?? '');
    const live = this.#pc.getTransceivers().filter(receives).map(({ receiver }) => receiver.track);
    const dead = [...this.#streams.keys()].filter((track) => !live.includes(track) || track.readyState === 'ended');
    for (const track of dead) {
      this.#streams.delete(track);
      this.stream.removeTrack(track);
    }
    if (dead.length > 0) this.#options.onChange();
  }
}
