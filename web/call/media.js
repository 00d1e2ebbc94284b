/**
 * This person's microphone and camera. Owns the two tracks; tells the rest of the page by `change` events what there is to send.
 */
import * as memory from './memory.js';

/** @typedef {'audio' | 'video'} Kind */

/** @type {Record<Kind, MediaTrackConstraints>} */
const WISHES = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  video: { width: { ideal: 960 }, height: { ideal: 540 }, frameRate: { ideal: 24 } },
};

export class Media extends EventTarget {
  /** What the preview shows. */
  stream = new MediaStream();
  /** Why something is missing that was asked for. @type {unknown} */
  error = null;
  /** @type {Record<Kind, MediaStreamTrack | null>} */
  #tracks = { audio: null, video: null };

  /** Whether this kind is being sent. @param {Kind} kind */
  isOn(kind) {
    return this.#tracks[kind]?.enabled ?? false;
  }

  /** @param {Kind} kind */
  track(kind) {
    return this.#tracks[kind];
  }

  /** Asks for everything the person did not switch off; takes what it can get. */
  async open() {
    const kinds = /** @type {Kind[]} */ (['audio', 'video']).filter((kind) => memory.wanted.get(kind));
    // One question for both; where that fails, one device may be missing and the other there.
    const attempts = kinds.length === 2 ? [kinds, ['audio'], ['video']] : [kinds];
    for (const attempt of /** @type {Kind[][]} */ (attempts)) {
      if (attempt.length === 0 || (await this.#take(attempt))) break;
    }
    this.#changed();
  }

  /** @param {Kind} kind */
  async toggle(kind) {
    const on = !this.isOn(kind);
    memory.wanted.set(kind, on);
    if (kind === 'audio' && this.#tracks.audio) this.#tracks.audio.enabled = on;
    else if (on) await this.#take([kind]);
    else this.#drop(kind);
    this.#changed();
  }

  stop() {
    this.#drop('audio');
    this.#drop('video');
  }

  /** @param {Kind[]} kinds */
  async #take(kinds) {
    try {
      const wishes = Object.fromEntries(kinds.map((kind) => [kind, WISHES[kind]]));
      const stream = await navigator.mediaDevices.getUserMedia(wishes);
      for (const track of stream.getTracks()) this.#keep(track);
      this.error = null;
      return true;
    } catch (error) {
      this.error = error;
      return false;
    }
  }

  /** @param {MediaStreamTrack} track */
  #keep(track) {
    const kind = /** @type {Kind} */ (track.kind);
    this.#drop(kind);
    this.#tracks[kind] = track;
    this.stream.addTrack(track);
    // Unplugged, or taken back by the browser.
    track.addEventListener('ended', () => {
      if (this.#tracks[kind] === track) this.#drop(kind);
      this.#changed();
    });
  }

  /** A stopped camera is really off: its light goes out. @param {Kind} kind */
  #drop(kind) {
    const track = this.#tracks[kind];
    if (!track) return;
    track.stop();
    this.stream.removeTrack(track);
    this.#tracks[kind] = null;
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
