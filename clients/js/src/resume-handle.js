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
  /** Null without a peer to resume. @type {string | null} */
  value = null;
  /** Whether an earlier page left the handle, so that this client takes over its peer. */
  takesOver = false;
  /** How long the handle is valid after the connection is lost. */
  windowMs = WINDOW_MS;
  #storage;

  /** @param {HandleStorage | null} [storage] null: the handle does not survive a reload */
  constructor(storage = null) {
    this.#storage = storage;
  }

  /** Reads and removes the handle of an earlier page. */
  open() {
    this.renew(this.#use((storage, key) => JSON.parse(storage.getItem(key) ?? '{}').handle));
    this.takesOver = this.value !== null;
    this.remove();
  }

  /**
   * @param {unknown} value the handle of the latest frame; null: the handle is no longer valid
   * @param {number} [windowMs] the resume window
   */
  renew(value, windowMs = this.windowMs) {
    this.value = typeof value === 'string' && HANDLE.test(value) ? value : null;
    this.takesOver = false;
    this.windowMs = windowMs;
  }

  /** The page closes. */
  store() {
    const handle = this.value;
    if (handle !== null) this.#use((storage, key) => storage.setItem(key, JSON.stringify({ handle })));
  }

  /** The page is open again. */
  remove() {
    this.#use((storage, key) => storage.removeItem(key));
  }

  /**
   * @template T
   * @param {(storage: HandleStorage['storage'], key: string) => T} use
   */
  #use(use) {
    try {
      return this.#storage && use(this.#storage.storage, this.#storage.key);
    } catch {
      return null; // the storage is disabled, or its text is not JSON
    }
  }
}
