/**
 * The microphone and camera of this person. Owns the two tracks; emits `change` for each change.
 */
import { savedSettings } from './saved-settings.js';
import { mediaSwitches } from './tab-storage.js';

/** @typedef {'audio' | 'video'} MediaKind */

/** @type {Record<MediaKind, MediaTrackConstraints>} */
const CONSTRAINTS = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  video: { width: { ideal: 960 }, height: { ideal: 540 }, frameRate: { ideal: 24 } },
};

/**
 * Opens the devices of the settings. If one of them is gone, any device is better than none.
 *
 * @param {MediaKind[]} kinds
 */
async function openDevices(kinds) {
  const all = Object.fromEntries(kinds.map((kind) => [kind, CONSTRAINTS[kind]]));
  const chosen = kinds.map((kind) => {
    const deviceId = savedSettings.get(kind === 'audio' ? 'microphone' : 'camera');
    return [kind, { ...CONSTRAINTS[kind], ...(deviceId && { deviceId: { exact: deviceId } }) }];
  });
  try {
    return await navigator.mediaDevices.getUserMedia(Object.fromEntries(chosen));
  } catch (error) {
    if (/** @type {{ name?: string }} */ (error).name !== 'OverconstrainedError') throw error;
    return navigator.mediaDevices.getUserMedia(all);
  }
}

export class LocalMedia extends EventTarget {
  /** The stream of the preview. */
  stream = new MediaStream();
  /** Why a requested device is missing. @type {unknown} */
  error = null;
  /** Until {@link open} has ended: the browser may be asking the person for a permission. */
  isOpening = true;
  /** @type {Record<MediaKind, MediaStreamTrack | null>} */
  #tracks = { audio: null, video: null };

  /** Whether this kind is on. @param {MediaKind} kind */
  isOn(kind) {
    return this.#tracks[kind]?.enabled ?? false;
  }

  /** Whether this kind is on, or is about to be. @param {MediaKind} kind */
  isWanted(kind) {
    return this.isOpening ? mediaSwitches.isOn(kind) : this.isOn(kind);
  }

  /** @param {MediaKind} kind */
  track(kind) {
    return this.#tracks[kind];
  }

  /** Opens the devices that the person has not switched off. */
  async open() {
    const kinds = /** @type {MediaKind[]} */ (['audio', 'video']).filter((kind) => mediaSwitches.isOn(kind));
    // One permission prompt for both. If that fails, one of the two devices may still work.
    const attempts = kinds.length === 2 ? [kinds, ['audio'], ['video']] : [kinds];
    for (const attempt of /** @type {MediaKind[][]} */ (attempts)) {
      if (attempt.length === 0 || (await this.#request(attempt))) break;
    }
    this.isOpening = false;
    // The person may have switched one off meanwhile.
    for (const kind of kinds) if (!mediaSwitches.isOn(kind)) this.#remove(kind);
    this.#emitChange();
  }

  /** @param {MediaKind} kind */
  async toggle(kind) {
    const on = !this.isWanted(kind);
    mediaSwitches.set(kind, on);
    if (kind === 'audio' && this.#tracks.audio) this.#tracks.audio.enabled = on;
    else if (on) await this.#request([kind]);
    else this.#remove(kind);
    this.#emitChange();
  }

  /** Uses the device of the settings, if this kind has a track. @param {MediaKind} kind */
  async changeDevice(kind) {
    const track = this.#tracks[kind];
    if (!track) return;
    const isOn = track.enabled;
    // A phone opens only one of its cameras at a time.
    this.#remove(kind);
    await this.#request([kind]);
    const { [kind]: changed } = this.#tracks;
    if (changed) changed.enabled = isOn;
    this.#emitChange();
  }

  /** @param {MediaKind[]} kinds */
  async #request(kinds) {
    try {
      const stream = await openDevices(kinds);
      for (const track of stream.getTracks()) this.#add(track);
      this.error = null;
      return true;
    } catch (error) {
      this.error = error;
      return false;
    }
  }

  /** @param {MediaStreamTrack} track */
  #add(track) {
    const kind = /** @type {MediaKind} */ (track.kind);
    this.#remove(kind);
    this.#tracks[kind] = track;
    this.stream.addTrack(track);
    // The device was unplugged, or the browser ended its track.
    track.addEventListener('ended', () => {
      if (this.#tracks[kind] === track) this.#remove(kind);
      this.#emitChange();
    });
  }

  /** Stops the track, so that the light of the camera is off. @param {MediaKind} kind */
  #remove(kind) {
    const track = this.#tracks[kind];
    if (!track) return;
    track.stop();
    this.stream.removeTrack(track);
    this.#tracks[kind] = null;
  }

  #emitChange() {
    this.dispatchEvent(new Event('change'));
  }
}
