/** The video tiles: one for this person, and one for each peer. Owns the elements of the tiles. */
import { cloneTemplate, find, setText, showStream } from './dom.js';

/** @typedef {import('./client/peer.js').Peer} Peer */

/** @param {string} name */
function initials(name) {
  const parts = name.trim().split(/\s+/);
  return parts.slice(0, 2).map((part) => [...part][0] ?? '').join('').toUpperCase();
}

/** @param {Element} tile @param {string} name */
function setName(tile, name) {
  setText(find('.tile-name span', tile), name);
  setText(find('.avatar', tile), initials(name));
}

export class VideoStage {
  /** @type {Map<string, Element>} */
  #tiles = new Map();
  #list;
  #onBlockedSound;

  /**
   * @param {Element} list
   * @param {() => void} onBlockedSound the browser needs a click before it plays sound
   */
  constructor(list, onBlockedSound) {
    this.#list = list;
    this.#onBlockedSound = onBlockedSound;
  }

  clear() {
    this.#list.replaceChildren();
    this.#tiles.clear();
    this.#updateCount();
  }

  /**
   * @param {import('./local-media.js').LocalMedia} media
   * @param {string} name
   * @param {() => boolean} maySend
   */
  addSelf(media, name, maySend) {
    const tile = this.#addTile(name);
    const video = find('video', tile);
    tile.classList.add('self');
    video.classList.add('mirror');
    /** @type {HTMLVideoElement} */ (video).muted = true;
    const update = (shown = name) => {
      setText(find('.tile-name span', tile), `${shown} (you)`);
      showStream(/** @type {HTMLVideoElement} */ (video), media.stream);
      tile.toggleAttribute('data-video', media.isOn('video'));
      tile.toggleAttribute('data-muted', !media.isOn('audio') || !maySend());
    };
    update();
    return update;
  }

  /** @param {Peer} peer */
  add(peer) {
    const tile = this.#addTile(peer.name);
    for (const element of [tile, find('video', tile)]) {
      element.setAttribute('data-peer-id', peer.peerId);
      element.setAttribute('data-user-id', peer.info.userId);
    }
    const update = () => this.#updateTile(tile, peer);
    peer.on('state', update);
    peer.on('info', update);
    const video = /** @type {HTMLVideoElement} */ (find('video', tile));
    video.addEventListener('resize', update);
    peer.on('tracks', () => {
      showStream(video, peer.stream);
      if (video.srcObject) this.#play(video);
      update();
    });
    this.#tiles.set(peer.peerId, tile);
    peer.on('closed', () => this.#removeTile(tile, peer.peerId));
    update();
  }

  /**
   * Shows the state of a peer on its tile, or hides the tile for a while.
   *
   * @param {string} peerId
   * @param {{ hidden: boolean, name: string, text: string }} state
   */
  update(peerId, { hidden, name, text }) {
    const tile = this.#tiles.get(peerId);
    if (!tile) return;
    tile.toggleAttribute('hidden', hidden);
    setName(tile, name);
    setText(find('.tile-state', tile), text);
    this.#updateCount();
  }

  /** Plays all videos after a click of the person. */
  playAll() {
    for (const video of this.#list.querySelectorAll('video')) this.#play(video);
  }

  /** @param {Element} tile @param {Peer} peer */
  #updateTile(tile, peer) {
    const { metadata } = peer.info;
    // Chromium may leave `track.muted` true for tracks that were negotiated around a rollback.
    const hasPicture = /** @type {HTMLVideoElement} */ (find('video', tile)).videoWidth > 0;
    tile.setAttribute('data-state', peer.state);
    tile.toggleAttribute('data-video', hasPicture && metadata.video !== false);
    tile.toggleAttribute('data-muted', metadata.audio === false);
  }

  /** @param {string} name */
  #addTile(name) {
    const tile = cloneTemplate('tile');
    setName(tile, name);
    this.#list.append(tile);
    this.#updateCount();
    return tile;
  }

  /** @param {Element} tile @param {string} peerId */
  #removeTile(tile, peerId) {
    if (this.#tiles.get(peerId) === tile) this.#tiles.delete(peerId);
    /** @type {HTMLVideoElement} */ (find('video', tile)).srcObject = null;
    tile.remove();
    this.#updateCount();
  }

  #updateCount() {
    this.#list.setAttribute('data-count', String(Math.min(this.#list.querySelectorAll('.tile:not([hidden])').length, 7)));
  }

  /** @param {HTMLVideoElement} video */
  #play(video) {
    video.play().catch((error) => error.name === 'NotAllowedError' && this.#onBlockedSound());
  }
}
