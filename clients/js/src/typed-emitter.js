/**
 * Typed events: a listener gets the detail of the event. A listener that throws does not stop the
 * others. Needs no part of a browser.
 *
 * @template {object} Events event name → detail
 */
export class TypedEmitter {
  /** Event name → listener → what ends it. @type {Record<string, Map<(detail: any) => void, AbortSignal | undefined>>} */
  #listeners = {};

  /**
   * Calls `listener` with the detail of every event of this name. What has happened before and still
   * counts is reported at once, before this method returns: see {@link past}.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @param {{ once?: boolean, signal?: AbortSignal }} [options]
   * @returns {() => void} removes the listener
   */
  on(name, listener, { once, signal } = {}) {
    const listeners = (this.#listeners[name] ??= new Map());
    /** @param {Events[Name]} detail */
    const call = (detail) => {
      if (signal?.aborted || !listeners.has(call)) return;
      if (once) remove();
      try {
        listener(detail);
      } catch (error) {
        // As an error of the page, and not of the code that emits.
        queueMicrotask(() => {
          throw error;
        });
      }
    };
    const remove = () => void listeners.delete(call);
    for (const [other, itsSignal] of listeners) if (itsSignal?.aborted) listeners.delete(other);
    listeners.set(call, signal);
    this.past(name).forEach(call);
    return remove;
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
   * The events that a late listener gets, because they still count.
   *
   * @protected
   * @param {string} _name
   * @returns {any[]} their details
   */
  past(_name) {
    return [];
  }

  /**
   * @protected
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {Events[Name]} detail
   */
  emit(name, detail) {
    for (const call of [...(this.#listeners[name]?.keys() ?? [])]) call(detail);
  }
}
