/**
 * The element `<signalbox-call>`: a whole call at one place of a page. An entry point of its own,
 * `@signalbox/client/element`, which defines the element when it is imported. Owns its presence in a
 * room and its buttons. Works under a strict Content Security Policy with Trusted Types.
 */
import { CallDevices } from './element-devices.js';
import { addStyle } from './element-style.js';
import { CallTiles, makeElement } from './element-tiles.js';
import { join } from './room.js';
import { SignalingError } from './signaling-error.js';

/** The texts, which the attributes `label-join`, … replace. */
const LABELS = {
  join: 'Join',
  leave: 'Leave',
  microphone: 'Microphone',
  camera: 'Camera',
  sound: 'Play sound',
  call: 'Call',
  you: 'you',
  screen: 'screen',
  connecting: 'Connecting …',
  lobby: 'Wait until you are admitted.',
  waiting: 'Reconnecting …',
};

/** @typedef {keyof typeof LABELS} LabelName */

/** Another value of one of these is another call. */
const IDENTITY = ['url', 'room', 'name', 'user', 'token-url'];

/** A server that renders the page imports this module too, and has no elements. */
const Base = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

/**
 * Events, with `detail`: `joined` (`room`), `peer` (`peer`), `left` (`error`: why), and `problem`
 * (`error`). A `problem` whose default is prevented is not shown.
 */
export class SignalboxCall extends Base {
  static observedAttributes = [...IDENTITY, 'autojoin', ...Object.keys(LABELS).map((name) => `label-${name}`)];

  /**
   * Returns a token of your backend, as the option of `join`. It may be set before the element is
   * defined.
   *
   * @type {(() => Promise<string> | string) | undefined}
   */
  getToken = /** @type {any} */ (this).getToken;

  /** The room while this element is in it. @type {import('./room.js').Room | null} */
  currentRoom = null;

  /** Whether the call is wanted: by `autojoin`, or by {@link join}. */
  #isWanted = false;
  /** Whether the element was outside of the document at the last {@link #update}. */
  #wasOutside = true;
  /** The {@link IDENTITY} of the call; empty outside of a call. */
  #identity = '';
  #hasUpdate = false;
  #abort = new AbortController();
  #devices = new CallDevices(() => {});
  /** Why the last call has ended, or what this one lacks. */
  #problem = '';
  #state = /** @type {import('./client.js').ClientState} */ ('idle');
  #showSelf = (/** @type {string} */ _name) => {};

  #tiles = new CallTiles(() => (this.#buttons.sound.hidden = false));
  #status = makeElement('p', 'status', { role: 'status' });
  #controls = makeElement('div', 'controls', { role: 'group' });
  #buttons = {
    join: this.#makeButton('join', () => this.join()),
    microphone: this.#makeButton('microphone', () => this.#toggle('audio')),
    camera: this.#makeButton('camera', () => this.#toggle('video')),
    sound: this.#makeButton('sound', () => this.#playSound()),
    leave: this.#makeButton('leave', () => this.leave()),
  };

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    addStyle(root);
    this.#controls.append(...Object.values(this.#buttons));
    root.append(this.#tiles.element, this.#status, this.#controls);
    this.#buttons.sound.hidden = true;
  }

  /** Joins the room. */
  join() {
    this.#isWanted = true;
    this.#requestUpdate();
  }

  /** Leaves the room. */
  leave() {
    this.#isWanted = false;
    this.#requestUpdate();
  }

  /** @protected */
  connectedCallback() {
    this.#requestUpdate();
  }

  /** @protected */
  disconnectedCallback() {
    this.#requestUpdate();
  }

  /** @protected @param {string} name @param {string | null} _before @param {string | null} value */
  attributeChangedCallback(name, _before, value) {
    if (name === 'autojoin' && value !== null && !this.#wasOutside) this.#isWanted = true;
    this.#requestUpdate();
  }

  /** In a microtask, so that a move in the document, or several attributes, are one change. */
  #requestUpdate() {
    if (this.#hasUpdate) return;
    this.#hasUpdate = true;
    queueMicrotask(() => {
      this.#hasUpdate = false;
      this.#update();
    });
  }

  #update() {
    if (!this.isConnected) this.#isWanted = false;
    else if (this.#wasOutside && this.hasAttribute('autojoin')) this.#isWanted = true;
    this.#wasOutside = !this.isConnected;
    const identity = this.#isWanted && this.hasAttribute('room') ? JSON.stringify(IDENTITY.map((name) => this.getAttribute(name))) : '';
    if (identity !== this.#identity) {
      if (this.#identity) this.#end(new SignalingError('left', 'This client has left the room.'));
      if (identity) void this.#start(identity);
    }
    this.#show();
  }

  /** @param {string} identity */
  async #start(identity) {
    const abort = new AbortController();
    const { signal } = abort;
    const devices = new CallDevices((kind, track) => !signal.aborted && this.#onTrack(kind, track));
    this.#identity = identity;
    this.#abort = abort;
    this.#devices = devices;
    this.#state = 'connecting';
    this.#problem = '';
    this.#showSelf = this.#tiles.addSelf(devices.stream);
    const missing = await devices.open();
    if (signal.aborted) return devices.stop();
    if (missing) this.#report(missing);
    const onState = (/** @type {import('./client.js').StateChange} */ { state }) => !signal.aborted && this.#onState(state);
    return join({ ...this.#options(), media: devices.stream, signal, onState }).then(
      (room) => this.#onJoined(room, signal),
      (error) => !signal.aborted && this.#fail(error),
    );
  }

  #options() {
    const [url, room = '', name, user, tokenUrl] = IDENTITY.map((attribute) => this.getAttribute(attribute) ?? undefined);
    return { url, room, name, user, getToken: this.getToken ?? (tokenUrl ? () => fetchToken(tokenUrl, room) : undefined) };
  }

  /** @param {import('./room.js').Room} room @param {AbortSignal} signal */
  #onJoined(room, signal) {
    this.currentRoom = room;
    this.#tellDevices();
    this.#emit('joined', { room });
    room.on('peer', (peer) => {
      this.#tiles.addPeer(peer, (name) => `${name} (${this.#label('screen')})`, signal);
      this.#emit('peer', { peer });
    }, { signal });
    room.on('error', ({ error }) => this.#report(error), { signal });
    room.client.on('permissions', () => this.#show(), { signal });
    void room.left.then((error) => !signal.aborted && this.#fail(error));
  }

  /** The call has ended, or could not begin. @param {SignalingError} error */
  #fail(error) {
    this.#isWanted = false;
    this.#end(error);
    // A page that called `room.leave()` knows it.
    if (error.code === 'left') this.#show();
    else this.#report(error);
  }

  /** @param {SignalingError} error */
  #end(error) {
    const { currentRoom } = this;
    this.#abort.abort();
    this.#devices.stop();
    this.#tiles.clear();
    this.#identity = '';
    this.#state = 'idle';
    this.#problem = '';
    this.currentRoom = null;
    if (currentRoom) this.#emit('left', { error });
  }

  /** @param {import('./client.js').ClientState} state */
  #onState(state) {
    this.#state = state;
    this.#show();
  }

  /** @param {import('./element-devices.js').Kind} kind @param {MediaStreamTrack | null} track */
  #onTrack(kind, track) {
    void this.currentRoom?.setTrack(kind, track).catch((error) => this.#report(error));
    this.#tellDevices();
  }

  /** @param {import('./element-devices.js').Kind} kind */
  async #toggle(kind) {
    const devices = this.#devices;
    const error = await devices.toggle(kind);
    if (devices !== this.#devices) return;
    this.#tellDevices();
    if (error) this.#report(error);
  }

  /** Shows what is on, here and to the peers, as the call page does. */
  #tellDevices() {
    const metadata = { audio: this.#devices.isOn('audio'), video: this.#devices.isOn('video') };
    // An update that is lost with the connection is sent again by the client.
    void this.currentRoom?.client.update({ metadata }).catch(() => {});
    this.#show();
  }

  /** @param {unknown} error of the client or of a device */
  #report(error) {
    const isShown = this.#emit('problem', { error });
    if (isShown) this.#problem = /** @type {Error} */ (error).message;
    this.#show();
  }

  /** @param {string} type @param {object} detail @returns {boolean} whether its default is not prevented */
  #emit(type, detail) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable: type === 'problem' }));
  }

  #playSound() {
    this.#buttons.sound.hidden = true;
    this.#tiles.play();
  }

  #show() {
    const isInCall = this.#identity !== '';
    const { join: joinButton, microphone, camera, leave } = this.#buttons;
    for (const [name, button] of Object.entries(this.#buttons)) button.textContent = this.#label(/** @type {LabelName} */ (name));
    joinButton.hidden = isInCall;
    joinButton.disabled = !this.hasAttribute('room');
    for (const button of [microphone, camera, leave]) button.hidden = !isInCall;
    if (!isInCall) this.#buttons.sound.hidden = true;
    for (const [kind, button] of /** @type {const} */ ([['audio', microphone], ['video', camera]])) {
      button.disabled = this.currentRoom !== null && !this.currentRoom.may('publish');
      button.setAttribute('aria-pressed', String(this.#devices.isOn(kind)));
    }
    this.#controls.setAttribute('aria-label', `${this.#label('call')} ${this.getAttribute('room') ?? ''}`);
    if (isInCall) this.#showSelf(`${this.getAttribute('name') ?? ''} (${this.#label('you')})`.trim());
    const text = this.#state === 'open' || this.#state === 'idle' ? '' : this.#label(/** @type {LabelName} */ (this.#state));
    const status = [text, this.#problem].filter(Boolean).join(' ');
    // A screen reader reads each change.
    if (this.#status.textContent !== status) this.#status.textContent = status;
  }

  /** @param {LabelName} name */
  #label(name) {
    return this.getAttribute(`label-${name}`) ?? LABELS[name];
  }

  /** @param {keyof typeof LABELS} name @param {() => void} onClick */
  #makeButton(name, onClick) {
    const button = makeElement('button', `button ${name}`, { type: 'button' });
    button.addEventListener('click', onClick);
    return button;
  }
}

/**
 * Asks a backend for a token, as the starters answer it.
 *
 * @param {string} address
 * @param {string} room
 */
async function fetchToken(address, room) {
  const url = new URL(address, document.baseURI);
  url.searchParams.set('room', room);
  const response = await fetch(url, { method: 'POST', cache: 'no-store' });
  const { token, code = 'unreadable', detail = `The backend answered ${response.status}.` } = await response.json().catch(() => ({}));
  if (!response.ok) throw new SignalingError(code, detail, { status: response.status });
  return token;
}

globalThis.customElements?.define('signalbox-call', SignalboxCall);
