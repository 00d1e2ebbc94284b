/**
 * The tools of a call that change what this person sees or shows: the shared screen, the view, the
 * small window and the full screen. Owns their buttons.
 */
import { find, setText } from './dom.js';
import { savedSettings } from './saved-settings.js';
import { ScreenShare } from './screen-share.js';
import { SmallWindow } from './small-window.js';
import { text } from './texts.js';

export class CallTools {
  #room;
  #screen;
  #window;

  /**
   * @param {object} options
   * @param {import('./client/room.js').Room} options.room
   * @param {import('./local-media.js').LocalMedia} options.media
   * @param {import('./video-stage.js').VideoStage} options.stage
   * @param {AbortSignal} options.signal the end of the call
   */
  constructor({ room, media, stage, signal }) {
    this.#room = room;
    this.#screen = new ScreenShare(room);
    this.#window = new SmallWindow({ media, getFocus: () => stage.focus, onLeave: () => room.leave(), onChange: () => this.update() });
    const on = (/** @type {string} */ selector, /** @type {() => unknown} */ run) => find(selector).addEventListener('click', run, { signal });
    on('#screen-button', () => (this.#screen.isOn ? this.#screen.stop() : void this.#startSharing()));
    on('#sharing-stop', () => this.#screen.stop());
    on('#layout-button', () => savedSettings.set('view', savedSettings.get('view') === 'speaker' ? 'grid' : 'speaker'));
    on('#pip-button', () => void this.#window.toggle());
    on('#full-button', () => void (document?.fullscreenElement ? document?.exitFullscreen() : document.documentElement.requestFullscreen()));
    this.#screen.addEventListener('change', () => this.update());
    savedSettings.addEventListener('view', () => this.update(), { signal });
    document.addEventListener('fullscreenchange', () => this.update(), { signal });
    for (const name of /** @type {const} */ (['joined', 'resumed', 'permissions'])) room.client.on(name, () => this.update(), { signal });
    signal.addEventListener('abort', () => this.#end());
    this.update();
  }

  update() {
    const canShare = this.#room.client.self !== null && this.#screen.isPossible;
    if (this.#screen.isOn && !canShare) this.#screen.stop();
    find('#screen-button').toggleAttribute('hidden', !canShare);
    find('#sharing').toggleAttribute('hidden', !this.#screen.isOn);
    find('#pip-button').toggleAttribute('hidden', !SmallWindow.isPossible);
    find('#full-button').toggleAttribute('hidden', !document?.fullscreenEnabled);
    for (const [button, isOn] of /** @type {const} */ ([
      ['#screen-button', this.#screen.isOn],
      ['#layout-button', savedSettings.get('view') === 'speaker'],
      ['#pip-button', this.#window.isOpen],
      ['#full-button', Boolean(document?.fullscreenElement)],
    ])) find(button).setAttribute('aria-pressed', String(isOn));
    this.#window.update();
  }

  async #startSharing() {
    try {
      await this.#screen.start();
    } catch (error) {
      // The person has cancelled.
      if (/** @type {{ name?: string }} */ (error).name !== 'NotAllowedError') setText(find('#call-problem'), text('sharing.failed'));
    }
  }

  #end() {
    this.#screen.stop();
    this.#window.close();
  }
}
