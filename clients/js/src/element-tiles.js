/**
 * The tiles of a call element: one for this person, and one or two (with a screen) for each peer.
 * Owns these elements. All text of a peer is set as text, never as markup.
 */

/** @typedef {import('./peer.js').Peer} Peer */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} part its names for `::part`
 * @param {Record<string, string>} [attributes]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function makeElement(tag, part, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries({ part, ...attributes })) element.setAttribute(name, value);
  return element;
}

/** One picture with a name. */
class Tile {
  figure;
  #initial = makeElement('span', 'initial', { 'aria-hidden': 'true' });
  #video = makeElement('video', 'video', { playsinline: '' });
  #name = makeElement('figcaption', 'name');
  #onBlocked;

  /** @param {string} part @param {() => void} onBlocked this browser plays sound only after a click */
  constructor(part, onBlocked) {
    this.#onBlocked = onBlocked;
    this.figure = makeElement('figure', `tile ${part}`);
    this.figure.append(this.#initial, this.#video, this.#name);
  }

  /** @param {{ name: string, stream?: MediaStream, hasPicture: boolean, muted?: boolean }} content */
  show({ name, stream = undefined, hasPicture, muted = false }) {
    this.#name.textContent = name;
    this.#initial.textContent = [...name][0] ?? '';
    this.#video.muted = muted;
    // An empty stream would delay the load event of the page.
    const source = stream?.getTracks().length ? stream : null;
    if (this.#video.srcObject !== source) this.#video.srcObject = source;
    this.#video.hidden = !hasPicture;
    if (source) this.play();
  }

  play() {
    this.#video.play().catch(({ name }) => name === 'NotAllowedError' && this.#onBlocked());
  }

  remove() {
    this.#video.srcObject = null;
    this.figure.remove();
  }
}

export class CallTiles {
  element = makeElement('div', 'tiles');
  /** @type {Set<Tile>} */
  #tiles = new Set();
  #onBlocked;

  /** @param {() => void} onBlocked a tile has sound that this browser plays only after a click */
  constructor(onBlocked) {
    this.#onBlocked = onBlocked;
  }

  /** Adds the tile of this person, and returns what updates it. @param {MediaStream} stream */
  addSelf(stream) {
    const tile = this.#add('self');
    return (/** @type {string} */ name) => tile.show({ name, stream, hasPicture: stream.getVideoTracks().length > 0, muted: true });
  }

  /**
   * Adds the tiles of a peer, which end with the peer.
   *
   * @param {Peer} peer
   * @param {(name: string) => string} nameScreen
   * @param {AbortSignal} signal ends their updates
   */
  addPeer(peer, nameScreen, signal) {
    const camera = this.#add('peer');
    /** @type {Tile | null} */
    let screen = null;
    const update = () => {
      const { name, stream, info, streams } = peer;
      // The call page and this element tell others in this way that a camera is off.
      camera.show({ name, stream, hasPicture: stream.getVideoTracks().length > 0 && info.metadata.video !== false });
      const shared = streams.get('screen');
      if (shared) (screen ??= this.#add('screen')).show({ name: nameScreen(name), stream: shared, hasPicture: true });
      else screen = this.#remove(screen);
      for (const tile of [camera, screen]) tile?.figure.toggleAttribute('data-away', peer.state !== 'connected');
    };
    for (const event of /** @type {const} */ (['state', 'tracks', 'info'])) peer.on(event, update, { signal });
    peer.on('closed', () => [camera, screen].forEach((tile) => this.#remove(tile)), { signal });
  }

  /** Plays all videos, after a click. */
  play() {
    for (const tile of this.#tiles) tile.play();
  }

  clear() {
    for (const tile of this.#tiles) this.#remove(tile);
  }

  /** @param {string} part */
  #add(part) {
    const tile = new Tile(part, this.#onBlocked);
    this.#tiles.add(tile);
    this.element.append(tile.figure);
    return tile;
  }

  /** @param {Tile | null} tile @returns {null} */
  #remove(tile) {
    tile?.remove();
    if (tile) this.#tiles.delete(tile);
    return null;
  }
}
