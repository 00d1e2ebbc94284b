/**
 * The resume handle of this peer, and its copy in a storage that survives a reload of the page.
 * Does not interpret the handle.
 *
 * A browser copies sessionStorage when the user duplicates a tab. If the copy held the handle, the
 * new tab would take over the peer of the first tab. So the storage is empty while a page is open:
 * `pagehide` writes the handle, and the next page removes it (or this page on `pageshow`, when the
 * back button restores it). A tab that ends without `pagehide` leaves no handle: the next page
 * joins as a new peer, and the old peer leaves at the end of its resume window.
 */

/**
 * @typedef {object} HandleStorage
 * @property {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} storage belongs to this tab
 *   alone, as sessionStorage does
 * @property {string} key
 */

/** How long a server of an earlier release keeps a lost peer, unless it is configured otherwise. */
const WINDOW_MS = 30_000;

/** Any other text must not become part of a request. */
const HANDLE = /^[\w-]+(\.[\w-]+)*$/;

export class ResumeHandle {
  /** @type {string | null} */
  #value = null;
  #takesOver = false;
  #windowMs = WINDOW_MS;
  #storage;
  #onHide = () => this.#value !== null && this.#write(this.#value);
  /** @param {PageTransitionEvent} event */
  #onShow = ({ persisted }) => persisted && this.#write(null);

  /** @param {HandleStorage | null} [storage] null: the handle does not survive a reload */
  constructor(storage = null) {
    this.#storage = storage;
  }

  /** Null without a peer to resume. */
  get value() {
    return this.#value;
  }

  /** Whether an earlier page left the handle, so that this client takes over its peer. */
  get takesOver() {
    return this.#takesOver;
  }

  /** How long the handle is valid after the connection is lost. */
  get windowMs() {
    return this.#windowMs;
  }

  /** Reads and removes the handle of an earlier page, and listens for the end of this page. */
  open() {
    if (!this.#storage) return;
    const stored = this.#read();
    this.#write(null);
    this.#value = stored;
    this.#takesOver = stored !== null;
    globalThis.addEventListener?.('pagehide', this.#onHide);
    globalThis.addEventListener?.('pageshow', this.#onShow);
  }

  /**
   * @param {string | null} value the handle of the latest frame
   * @param {number} [windowMs] the resume window
   */
  renew(value, windowMs = this.#windowMs) {
    this.#value = isHandle(value) ? value : null;
    this.#takesOver = false;
    this.#windowMs = windowMs;
  }

  /** The handle is no longer valid. */
  forget() {
    this.renew(null);
  }

  close() {
    this.forget();
    globalThis.removeEventListener?.('pagehide', this.#onHide);
    globalThis.removeEventListener?.('pageshow', this.#onShow);
    if (this.#storage) this.#write(null);
  }

  #read() {
    try {
      const { handle } = JSON.parse(this.#storage?.storage.getItem(this.#storage.key) ?? '{}');
      return isHandle(handle) ? handle : null;
    } catch {
      return null; // the storage is disabled, or its text is not JSON
    }
  }

  /** @param {string | null} handle */
  #write(handle) {
    try {
      if (handle === null) this.#storage?.storage.removeItem(this.#storage.key);
      else this.#storage?.storage.setItem(this.#storage.key, JSON.stringify({ handle }));
    } catch {
      // The storage is disabled: the handle does not survive a reload.
    }
  }
}

/** @param {unknown} value @returns {value is string} */
function isHandle(value) {
  return typeof value === 'string' && HANDLE.test(value);
}
