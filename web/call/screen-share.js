/**
 * The screen that this person shares, with its sound if the browser offers it: the stream `screen` of
 * the room, beside the camera. Owns the tracks; emits `change`.
 */

/** Text is more important than motion, and a mesh sends each picture several times. */
const CONSTRAINTS = { video: { frameRate: { ideal: 15 }, width: { max: 1920 }, height: { max: 1080 } }, audio: true };

/** The name of the stream for the other side. */
export const SCREEN = 'screen';

export class ScreenShare extends EventTarget {
  #room;
  /** @type {MediaStream | null} */
  #stream = null;

  /** @param {import('./client/room.js').Room} room */
  constructor(room) {
    super();
    this.#room = room;
  }

  get isOn() {
    return this.#stream !== null;
  }

  /** Whether this browser can share, and this person may. */
  get isPossible() {
    return 'getDisplayMedia' in (navigator.mediaDevices ?? {}) && this.#room.may('publish') && this.#room.may('share');
  }

  /** Asks the person which screen or window to share. A refusal changes nothing. */
  async start() {
    const stream = await navigator.mediaDevices.getDisplayMedia(CONSTRAINTS);
    this.stop();
    this.#stream = stream;
    for (const track of stream.getTracks()) {
      if (track.kind === 'video') track.contentHint = 'detail';
      // The browser has its own button to stop sharing.
      track.addEventListener('ended', () => track.kind === 'video' && this.#stream === stream && this.stop());
      await this.#room.setTrack(SCREEN, track);
    }
    this.dispatchEvent(new Event('change'));
  }

  stop() {
    const stream = this.#stream;
    this.#stream = null;
    if (!stream) return;
    for (const track of stream.getTracks()) track.stop();
    void this.#room.setTrack(SCREEN, null);
    this.dispatchEvent(new Event('change'));
  }
}
