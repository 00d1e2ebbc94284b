/**
 * The handle with which this peer comes back, and where it outlives the page. Owns one text and its one place in a storage; must not
 * know what the server makes of it.
 *
 * sessionStorage is copied when a tab is duplicated. With the handle in it, the copy would take the peer over and throw the first tab out
 * of the call. So the storage is empty while a page lives: the handle is written as the page goes (`pagehide`), and the next page, or
 * this one brought back by the back button (`pageshow`), takes it out again. A tab that dies without `pagehide` leaves nothing: it joins
 * anew, and its old peer ends with the resume window.
 */

/**
 * @typedef {object} HandlePlace
 * @property {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} storage of this tab alone, as sessionStorage is
 * @property {string} key
 */

/** What a handle looks like; anything else must not get into a request. */
const HANDLE = /^[\w-]+(\.[\w-]+)*$/;

export class Handle {
  /** @type {string | null} */
  #value = null;
  #takesOver = false;
  #place;
  #onHide = () => this.#value !== null && this.#write(this.#value);
  /** @param {PageTransitionEvent} event */
  #onShow = ({ persisted }) => persisted && this.#write(null);

  /** @param {HandlePlace | null} [place] where it is kept over a reload; nowhere where absent */
  constructor(place = null) {
    this.#place = place;
  }

  /** Null where there is nothing to come back to. */
  get value() {
    return this.#value;
  }

  /** Whether it is another page's, whose place this client takes as a new peer. */
  get takesOver() {
    return this.#takesOver;
  }

  /** Takes what an earlier page left, and watches for the end of this one. */
  open() {
    if (!this.#place) return;
    const left = this.#read();
    this.#write(null);
    this.#value = left;
    this.#takesOver = left !== null;
    globalThis.addEventListener?.('pagehide', this.#onHide);
    globalThis.addEventListener?.('pageshow', this.#onShow);
  }

  /** Every `joined` and `resumed` brings a new one. @param {string | null} value */
  renew(value) {
    this.#value = isHandle(value) ? value : null;
    this.#takesOver = false;
  }

  /** The peer is gone, or not ours any more. */
  forget() {
    this.renew(null);
  }

  close() {
    this.forget();
    globalThis.removeEventListener?.('pagehide', this.#onHide);
    globalThis.removeEventListener?.('pageshow', this.#onShow);
    if (this.#place) this.#write(null);
  }

  #read() {
    try {
      const { handle } = JSON.parse(this.#place?.storage.getItem(this.#place.key) ?? '{}');
      return isHandle(handle) ? handle : null;
    } catch {
      return null; // storage is switched off, or holds something else: as without it
    }
  }

  /** @param {string | null} handle */
  #write(handle) {
    try {
      if (handle === null) this.#place?.storage.removeItem(this.#place.key);
      else this.#place?.storage.setItem(this.#place.key, JSON.stringify({ handle }));
    } catch {
      // as above
    }
  }
}

/** @param {unknown} value @returns {value is string} */
function isHandle(value) {
  return typeof value === 'string' && HANDLE.test(value);
}
