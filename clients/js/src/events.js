/**
 * A typed emitter on `EventTarget`: listeners get the detail itself, and one that throws does not stop the others
 * (the platform reports it). Owns nothing but the listeners.
 *
 * @template {object} Events event name → what its listeners get
 */
export class Emitter extends EventTarget {
  /**
   * Calls `listener` with the detail of every event of this name, until the returned function is called.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @param {{ once?: boolean, signal?: AbortSignal }} [options]
   * @returns {() => void} takes the listener off
   */
  on(name, listener, options) {
    /** @param {Event} event */
    const handler = (event) => listener(/** @type {CustomEvent<Events[Name]>} */ (event).detail);
    this.addEventListener(name, handler, options);
    return () => this.removeEventListener(name, handler);
  }

  /**
   * The detail of the next event of this name.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @returns {Promise<Events[Name]>}
   */
  next(name) {
    return new Promise((resolve) => this.on(name, resolve, { once: true }));
  }

  /**
   * @protected
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {Events[Name]} detail
   */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
