/**
 * The tiles: one for this person, one for everyone else. Owns the elements; what a tile says comes from its peer.
 */
import { copyOf, find, say, showStream } from './dom.js';

/** @typedef {import('/client/peer.js').Peer} Peer */

/** @param {string} name */
function initials(name) {
  const parts = name.trim().split(/\s+/);
  return parts.slice(0, 2).map((part) => [...part][0] ?? '').join('').toUpperCase();
}

export class Stage {
  /** @type {Map<string, Element>} */
  #tiles = new Map();
  #list;
  #onSilent;

  /** @param {Element} list @param {() => void} onSilent the browser wants a click before it plays sound */
  constructor(list, onSilent) {
    this.#list = list;
    this.#onSilent = onSilent;
  }

  clear() {
    this.#list.replaceChildren();
    this.#tiles.clear();
    this.#count();
  }

  /** @param {import('./media.js').Media} media @param {string} name @param {() => boolean} maySend */
  addSelf(media, name, maySend) {
    const tile = this.#add(name);
    say(find('.tile-name span', tile), `${name} (you)`);
    const video = find('video', tile);
    tile.classList.add('self');
    video.classList.add('mirror');
    /** @type {HTMLVideoElement} */ (video).muted = true;
    const show = () => {
      showStream(/** @type {HTMLVideoElement} */ (video), media.stream);
      tile.toggleAttribute('data-video', media.isOn('video'));
      tile.toggleAttribute('data-muted', !media.isOn('audio') || !maySend());
    };
    media.addEventListener('change', show);
    show();
    return show;
  }

  /** @param {Peer} peer */
  add(peer) {
    const tile = this.#add(peer.name);
    for (const element of [tile, find('video', tile)]) {
      element.setAttribute('data-peer-id', peer.peerId);
      element.setAttribute('data-user-id', peer.info.userId);
    }
    const show = () => this.#show(tile, peer);
    peer.on('state', show);
    peer.on('info', show);
    const video = /** @type {HTMLVideoElement} */ (find('video', tile));
    video.addEventListener('resize', show);
    peer.on('track', ({ track }) => {
      track.addEventListener('ended', show);
      showStream(video, peer.stream);
      this.#play(video);
      show();
    });
    this.#tiles.set(peer.peerId, tile);
    peer.on('closed', () => this.#remove(tile, peer.peerId));
    show();
  }

  /**
   * What the tile says of its peer; hidden, it is off the stage, perhaps not for good.
   *
   * @param {string} peerId
   * @param {{ hidden: boolean, sentence: string }} now
   */
  update(peerId, { hidden, sentence }) {
    const tile = this.#tiles.get(peerId);
    if (!tile) return;
    tile.toggleAttribute('hidden', hidden);
    say(find('.tile-state', tile), sentence);
    this.#count();
  }

  /** After a click, which is what the browser waited for. */
  playAll() {
    for (const video of this.#list.querySelectorAll('video')) this.#play(video);
  }

  /** @param {Element} tile @param {Peer} peer */
  #show(tile, peer) {
    const { metadata } = peer.info;
    // Not `track.muted`: Chromium leaves it true on tracks that were negotiated around a rollback.
    const picture = /** @type {HTMLVideoElement} */ (find('video', tile)).videoWidth > 0;
    tile.setAttribute('data-state', peer.state);
    tile.toggleAttribute('data-video', picture && metadata.video !== false);
    tile.toggleAttribute('data-muted', metadata.audio === false);
    say(find('.tile-name span', tile), peer.name);
    say(find('.avatar', tile), initials(peer.name));
  }

  /** @param {string} name */
  #add(name) {
    const tile = copyOf('tile');
    say(find('.tile-name span', tile), name);
    say(find('.avatar', tile), initials(name));
    this.#list.append(tile);
    this.#count();
    return tile;
  }

  /** @param {Element} tile @param {string} peerId */
  #remove(tile, peerId) {
    if (this.#tiles.get(peerId) === tile) this.#tiles.delete(peerId);
    /** @type {HTMLVideoElement} */ (find('video', tile)).srcObject = null;
    tile.remove();
    this.#count();
  }

  #count() {
    this.#list.setAttribute('data-count', String(Math.min(this.#list.querySelectorAll('.tile:not([hidden])').length, 7)));
  }

  /** @param {HTMLVideoElement} video */
  #play(video) {
    video.play().catch((error) => error.name === 'NotAllowedError' && this.#onSilent());
  }
}
