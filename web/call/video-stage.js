/**
 * The pictures of a call: one for this person, one for each peer, and one for each shared screen. Owns
 * the tiles and gives each its place; stage-layout.js computes the places.
 */
import { find, setText } from './dom.js';
import { savedSettings } from './saved-settings.js';
import { SCREEN } from './screen-share.js';
import { CORNERS, MORE, arrangeStage, chooseMain, nearestCorner } from './stage-layout.js';
import { text } from './texts.js';
import { VideoTile } from './video-tile.js';

/**
 * @typedef {import('./client/peer.js').Peer} Peer
 * @typedef {import('./stage-layout.js').Corner} Corner
 */

const OWN = 'self';

/** A shorter move of the pointer is a click. */
const DRAG_PIXELS = 8;

export class VideoStage {
  /** The id of a peer, of its screen, or {@link OWN} → tile. @type {Map<string, VideoTile>} */
  #tiles = new Map();
  #list;
  #onBlockedSound;
  #more = Object.assign(document.createElement('button'), { type: 'button', className: 'tile more' });
  #size = { width: 0, height: 0 };
  /** @type {string | null} */
  #pinned = null;
  /** @type {string | null} */
  #speaker = null;
  #abort = new AbortController();
  #observer = new ResizeObserver(([entry]) => this.#onResize(entry?.contentRect));

  /**
   * @param {HTMLElement} list
   * @param {{ onBlockedSound: () => void, onMore: () => void }} options `onBlockedSound`: the browser
   *   needs a click before it plays sound; `onMore`: the person wants to know who has no tile
   */
  constructor(list, { onBlockedSound, onMore }) {
    this.#list = list;
    this.#onBlockedSound = onBlockedSound;
    this.#more.addEventListener('click', onMore);
    const { signal } = this.#abort;
    for (const setting of ['view', 'corner']) savedSettings.addEventListener(setting, () => this.#arrange(), { signal });
    this.#list.replaceChildren();
    this.#observer.observe(list);
  }

  close() {
    this.#abort.abort();
    this.#observer.disconnect();
    for (const id of [...this.#tiles.keys()]) this.#remove(id);
    this.#list.replaceChildren();
  }

  /** What a small window shows: the large picture, the speaker, or the first person. */
  get focus() {
    const others = this.#ids('person');
    const id = this.#main ?? (this.#speaker !== null && others.includes(this.#speaker) ? this.#speaker : others[0]) ?? OWN;
    return this.#tiles.get(id);
  }

  /**
   * @param {import('./local-media.js').LocalMedia} media
   * @param {string} name
   * @param {() => boolean} maySend
   */
  addSelf(media, name, maySend) {
    const tile = this.#add(OWN, 'self', name);
    this.#makeMovable(tile);
    tile.video.addEventListener('resize', () => this.#arrange());
    const update = (shown = name, hasHand = false) => {
      tile.setName(shown);
      tile.element.toggleAttribute('data-hand', hasHand);
      tile.show(media.stream);
      tile.element.toggleAttribute('data-video', media.isOn('video'));
      tile.element.toggleAttribute('data-muted', !media.isOn('audio') || !maySend());
    };
    update();
    return update;
  }

  /** @param {Peer} peer */
  add(peer) {
    const tile = this.#add(peer.peerId, 'person', peer.name);
    for (const element of [tile.element, tile.video]) {
      element.setAttribute('data-peer-id', peer.peerId);
      element.setAttribute('data-user-id', peer.info.userId);
    }
    const update = () => showPeerState(tile, peer);
    peer.on('state', update);
    peer.on('info', update);
    tile.video.addEventListener('resize', update);
    peer.on('tracks', () => {
      tile.show(peer.stream);
      update();
      this.#showScreen(peer);
    });
    peer.on('closed', () => {
      this.#remove(peer.peerId);
      this.#remove(screenId(peer.peerId));
    });
    update();
  }

  /**
   * Shows the state of a peer on its tile, or hides the tile for a while.
   *
   * @param {string} peerId
   * @param {{ hidden: boolean, name: string, text: string, hasHand: boolean }} state
   */
  update(peerId, { hidden, name, text: state, hasHand }) {
    const tile = this.#tiles.get(peerId);
    if (!tile) return;
    const screen = this.#tiles.get(screenId(peerId));
    const isChanged = tile.isHidden !== hidden;
    tile.element.hidden = hidden;
    tile.setName(name);
    setText(find('.tile-state', tile.element), state);
    tile.element.toggleAttribute('data-hand', hasHand);
    screen?.element.toggleAttribute('hidden', hidden);
    screen?.setName(text('stage.screen', { name }));
    if (isChanged) this.#arrange();
  }

  /** @param {string | null} peerId the last person who spoke @param {boolean} isSpeaking now */
  setSpeaker(peerId, isSpeaking) {
    for (const [id, { element }] of this.#tiles) element.toggleAttribute('data-speaking', isSpeaking && id === peerId);
    if (peerId === this.#speaker) return;
    this.#speaker = peerId;
    this.#arrange();
  }

  /** Plays all videos after a click of the person. */
  playAll() {
    for (const tile of this.#tiles.values()) tile.play();
  }

  /** @param {Peer} peer */
  #showScreen(peer) {
    const id = screenId(peer.peerId);
    const stream = peer.streams.get(SCREEN);
    if (!stream || stream.getVideoTracks().length === 0) return this.#remove(id);
    const tile = this.#tiles.get(id) ?? this.#add(id, 'screen', text('stage.screen', { name: this.#tiles.get(peer.peerId)?.name ?? peer.name }));
    tile.element.setAttribute('data-screen-of', peer.peerId);
    tile.element.setAttribute('data-video', '');
    tile.show(stream);
  }

  /** @param {string} id @param {import('./video-tile.js').TileKind} kind @param {string} name */
  #add(id, kind, name) {
    const tile = new VideoTile(kind, { onPlayRefused: this.#onBlockedSound, signal: this.#abort.signal });
    tile.setName(name);
    tile.pinButton.addEventListener('click', () => this.#pin(id));
    this.#tiles.set(id, tile);
    this.#list.append(tile.element);
    this.#arrange();
    return tile;
  }

  /** @param {string} id */
  #remove(id) {
    this.#tiles.get(id)?.remove();
    if (this.#tiles.delete(id)) this.#arrange();
  }

  /** @param {string} id */
  #pin(id) {
    this.#pinned = this.#pinned === id ? null : id;
    this.#arrange();
  }

  /** The visible tiles of a kind. @param {import('./video-tile.js').TileKind} kind */
  #ids(kind) {
    return [...this.#tiles].filter(([, tile]) => tile.kind === kind && !tile.isHidden).map(([id]) => id);
  }

  get #main() {
    const view = savedSettings.get('view') === 'speaker' ? 'speaker' : 'grid';
    return chooseMain({ pinned: this.#pinned, screens: this.#ids('screen'), others: this.#ids('person'), speaker: this.#speaker, view });
  }

  /** @param {DOMRectReadOnly | undefined} rect */
  #onResize(rect) {
    if (!rect) return;
    this.#size = { width: Math.floor(rect.width), height: Math.floor(rect.height) };
    this.#arrange();
  }

  #arrange() {
    if (this.#size.width === 0 || !this.#tiles.has(OWN)) return;
    const [others, screens, main] = [this.#ids('person'), this.#ids('screen'), this.#main];
    const corner = /** @type {Corner} */ (savedSettings.get('corner'));
    const aspect = this.#tiles.get(OWN)?.aspect ?? 1;
    const { places, beyond } = arrangeStage({ ...this.#size, others, own: OWN, screens, main, corner, aspect }, this.#speaker);
    const canPin = others.length > 1 || screens.length > 0;
    for (const [id, tile] of this.#tiles) {
      const place = places.get(id);
      if (place) tile.place(place);
      tile.pinButton.hidden = !canPin || tile.kind === 'self';
      tile.pinButton.setAttribute('aria-pressed', String(this.#pinned === id));
      find('.move', tile.element).toggleAttribute('hidden', place?.place !== 'corner');
    }
    this.#list.setAttribute('data-corner', others.length <= 1 && main === null ? corner : '');
    this.#showMore(places.get(MORE), beyond);
  }

  /** @param {import('./stage-layout.js').Box | undefined} box @param {number} beyond */
  #showMore(box, beyond) {
    if (!box) return this.#more.parentElement?.remove();
    setText(this.#more, text('stage.more', { count: beyond }));
    for (const side of /** @type {const} */ (['left', 'top', 'width', 'height'])) this.#more.style.setProperty(`--${side}`, `${box[side]}px`);
    if (this.#more.isConnected) return;
    const item = document.createElement('li');
    item.append(this.#more);
    this.#list.append(item);
  }

  /** The own picture goes to another corner by a drag, or by its button. @param {VideoTile} tile */
  #makeMovable(tile) {
    const { element } = tile;
    /** @type {{ x: number, y: number } | null} */
    let start = null;
    const distance = (/** @type {PointerEvent} */ { clientX, clientY }) => (start ? { right: clientX - start.x, down: clientY - start.y } : { right: 0, down: 0 });
    element.addEventListener('pointerdown', (event) => {
      const isOnButton = event.target instanceof Element && event.target.closest('button');
      if (event.button !== 0 || isOnButton || element.getAttribute('data-place') !== 'corner') return;
      start = { x: event.clientX, y: event.clientY };
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener('pointermove', (event) => {
      const { right, down } = distance(event);
      if (start) tile.drag(right, down);
    });
    const end = (/** @type {PointerEvent} */ event) => {
      const { right, down } = distance(event);
      start = null;
      if (Math.hypot(right, down) < DRAG_PIXELS) return this.#arrange();
      const { x, y } = tile.centerAfter(right, down);
      savedSettings.set('corner', nearestCorner(x, y, this.#size.width, this.#size.height));
    };
    for (const name of /** @type {const} */ (['pointerup', 'pointercancel'])) element.addEventListener(name, (event) => start && end(event));
    find('.move', element).addEventListener('click', () => {
      const at = CORNERS.indexOf(/** @type {Corner} */ (savedSettings.get('corner')));
      savedSettings.set('corner', CORNERS[(at + 1) % CORNERS.length] ?? 'bottom right');
    });
  }
}

/** @param {string} peerId */
function screenId(peerId) {
  return `${SCREEN} ${peerId}`;
}

/** @param {VideoTile} tile @param {Peer} peer */
function showPeerState({ element, video }, peer) {
  const { metadata } = peer.info;
  element.setAttribute('data-state', peer.state);
  // Chromium may leave `track.muted` true for tracks that were negotiated around a rollback.
  element.toggleAttribute('data-video', video.videoWidth > 0 && metadata.video !== false);
  element.toggleAttribute('data-muted', metadata.audio === false);
}
