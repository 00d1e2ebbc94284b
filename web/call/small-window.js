/**
 * The call in a small window above all others, while the person works in another program: the large
 * picture, or the speaker, with the most important buttons. Where a browser has no such windows, its
 * picture-in-picture of one video. Owns that window.
 */
import { cloneTemplate, find, setText } from './dom.js';
import { bindToggles } from './media-toggles.js';

/** @typedef {import('./video-tile.js').VideoTile} VideoTile */

const SIZE = { width: 384, height: 260 };

/** @typedef {{ requestWindow: (size: typeof SIZE) => Promise<Window> }} DocumentWindows */

/** Not in all supported browsers. @type {DocumentWindows | undefined} */
const documents = /** @type {any} */ (globalThis)['documentPictureInPicture'];

export class SmallWindow {
  #options;
  /** @type {Window | null} */
  #window = null;
  #abort = new AbortController();

  /**
   * @param {{ media: import('./local-media.js').LocalMedia, getFocus: () => VideoTile | undefined,
   *   onLeave: () => void, onChange: () => void }} options `getFocus`: what to show
   */
  constructor(options) {
    this.#options = options;
  }

  /** Whether this browser has one of the two. */
  static get isPossible() {
    return documents !== undefined || document?.pictureInPictureEnabled === true;
  }

  get isOpen() {
    return this.#window !== null || Boolean(document?.pictureInPictureElement);
  }

  async toggle() {
    if (this.isOpen) this.close();
    else if (documents) await this.#open(documents);
    else await this.#openVideo();
  }

  /** Shows the current focus. */
  update() {
    const tile = this.#options.getFocus();
    if (!this.#window || !tile) return;
    const { body } = this.#window.document;
    /** @type {HTMLVideoElement} */
    const video = find('video', body);
    if (video.srcObject !== tile.video.srcObject) video.srcObject = tile.video.srcObject;
    video.classList.toggle('mirror', tile.kind === 'self');
    const small = find('.tile', body);
    small.toggleAttribute('data-video', tile.element.hasAttribute('data-video'));
    setText(find('.tile-name span', body), find('.tile-name span', tile.element).textContent ?? '');
    setText(find('.avatar', body), find('.avatar', tile.element).textContent ?? '');
  }

  close() {
    this.#window?.close();
    if (document?.pictureInPictureElement) void document?.exitPictureInPicture();
  }

  /** @param {DocumentWindows} windows */
  async #open(windows) {
    const opened = await windows.requestWindow(SIZE);
    const { media, onLeave, onChange } = this.#options;
    const { documentElement, head, body } = opened.document;
    documentElement.lang = document.documentElement.lang;
    // The window has the rules of the page, but not its state.
    documentElement.setAttribute('data-started', '');
    documentElement.toggleAttribute('data-unmirrored', document.documentElement.hasAttribute('data-unmirrored'));
    for (const sheet of document.querySelectorAll('link[rel="stylesheet"]')) head.append(sheet.cloneNode());
    body.append(cloneTemplate('small-window'));
    this.#abort = new AbortController();
    bindToggles(media, body, this.#abort.signal);
    find('.leave', body).addEventListener('click', onLeave);
    media.addEventListener('change', () => this.update(), { signal: this.#abort.signal });
    opened.addEventListener('pagehide', () => {
      this.#abort.abort();
      this.#window = null;
      onChange();
    });
    this.#window = opened;
    this.update();
    onChange();
  }

  async #openVideo() {
    const video = this.#options.getFocus()?.video;
    video?.addEventListener('leavepictureinpicture', this.#options.onChange, { once: true });
    await video?.requestPictureInPicture();
    this.#options.onChange();
  }
}
