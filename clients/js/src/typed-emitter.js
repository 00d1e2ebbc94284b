/**
 * An `EventTarget` with typed events: a listener gets the detail, not the event object. A listener
 * that throws does not stop the others.
 *
 * @template {object} Events event name → detail
 */
export class TypedEmitter extends EventTarget {
  /**
   * Calls `listener` with the detail of every event of this name.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @param {{ once?: boolean, signal?: AbortSignal }} [options]
   * @returns {() => void} removes the listener
   */
  on(name, listener, options) {
    /** @param {Event} event */
    const handler = (event) => listener(/** @type {CustomEvent<Events[Name]>} */ (event).detail);
    this.addEventListener(name, handler, options);
    return () => this.removeEventListener(name, handler);
  }

  /**
   * Resolves with the detail of the next event of this name.
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
