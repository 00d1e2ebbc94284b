/** One picture of the call: a person, or a shared screen. Owns the element of the tile. */
import { cloneTemplate, find, setText, showStream } from './dom.js';
import { savedSettings } from './saved-settings.js';
import { fitOf } from './stage-layout.js';
import { text } from './texts.js';

/**
 * @typedef {import('./stage-layout.js').Box} Box
 * @typedef {import('./stage-layout.js').Place} Place
 * @typedef {'self' | 'person' | 'screen'} TileKind
 */

/** @param {string} name */
function initials(name) {
  const parts = name.trim().split(/\s+/);
  return parts.slice(0, 2).map((part) => [...part][0] ?? '').join('').toUpperCase();
}

export class VideoTile {
  kind;
  element = /** @type {HTMLElement} */ (cloneTemplate('tile'));
  /** Plays the sound too. @type {HTMLVideoElement} */
  video = find('video', this.element);
  /** The person or screen, as the page names it. */
  name = '';
  #box = { left: 0, top: 0, width: 0, height: 0 };

  /** @param {TileKind} kind @param {{ onPlayRefused: () => void, signal: AbortSignal }} options */
  constructor(kind, { onPlayRefused, signal }) {
    this.kind = kind;
    this.onPlayRefused = onPlayRefused;
    this.element.classList.add(kind);
    if (kind === 'self') {
      this.video.muted = true;
      this.video.classList.add('mirror');
    } else {
      savedSettings.addEventListener('speaker', () => this.#chooseSpeaker(), { signal });
      this.#chooseSpeaker();
    }
    this.video.addEventListener('resize', () => this.#fit());
  }

  /** Width / height of the picture; without one, of a tile that holds a name. */
  get aspect() {
    const { videoWidth, videoHeight } = this.video;
    return videoHeight > 0 ? videoWidth / videoHeight : 4 / 3;
  }

  get isHidden() {
    return this.element.hidden;
  }

  /** @returns {HTMLButtonElement} */
  get pinButton() {
    return find('.pin', this.element);
  }

  /** @param {string} name */
  setName(name) {
    this.name = name;
    setText(find('.tile-name span', this.element), this.kind === 'self' ? text('peer.you', { name }) : name);
    setText(find('.avatar', this.element), initials(name));
    this.pinButton.setAttribute('aria-label', text('stage.pin', { name }));
  }

  /** @param {MediaStream} stream */
  show(stream) {
    showStream(this.video, stream);
    if (this.video.srcObject && this.kind !== 'self') this.play();
  }

  play() {
    this.video.play().catch((error) => error.name === 'NotAllowedError' && this.onPlayRefused());
  }

  /** Puts the tile into its place, without a layout of the page. @param {Box & { place: Place }} place */
  place({ place, ...box }) {
    this.#box = box;
    this.element.setAttribute('data-place', place);
    for (const [side, length] of Object.entries(box)) this.element.style.setProperty(`--${side}`, `${length}px`);
    this.#fit();
  }

  /** Follows the pointer while the person drags the tile. @param {number} right @param {number} down */
  drag(right, down) {
    this.element.style.setProperty('--left', `${this.#box.left + right}px`);
    this.element.style.setProperty('--top', `${this.#box.top + down}px`);
  }

  /** The middle of the tile after a drag. @param {number} right @param {number} down */
  centerAfter(right, down) {
    const { left, top, width, height } = this.#box;
    return { x: left + right + width / 2, y: top + down + height / 2 };
  }

  remove() {
    this.video.srcObject = null;
    this.element.remove();
  }

  #fit() {
    const fit = this.kind === 'screen' ? 'contain' : fitOf(this.aspect, this.#box.width / (this.#box.height || 1));
    this.element.setAttribute('data-fit', fit);
  }

  #chooseSpeaker() {
    // The device may be gone: then the sound stays where it is.
    this.video.setSinkId?.(savedSettings.get('speaker')).catch(() => {});
  }
}
