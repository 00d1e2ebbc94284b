/**
 * What is over soon is not worth a word: tells whether something has been so for a while. Owns the timers, not the words.
 */
export class Lasting {
  /** What began → its timer, or null once it has lasted. @type {Map<string, ReturnType<typeof setTimeout> | null>} */
  #begun = new Map();
  #onLasted;

  /** @param {() => void} onLasted something has just become worth a word */
  constructor(onLasted) {
    this.#onLasted = onLasted;
  }

  /**
   * Notes whether it is so now.
   *
   * @param {string} what
   * @param {boolean} isSo
   * @param {number} ms how long it must be so
   * @returns {boolean} whether it has been for so long
   */
  note(what, isSo, ms) {
    if (isSo && !this.#begun.has(what)) {
      const lasted = () => {
        this.#begun.set(what, null);
        this.#onLasted();
      };
      this.#begun.set(what, setTimeout(lasted, ms));
    }
    if (!isSo) this.forget(what);
    return this.#begun.get(what) === null;
  }

  /** @param {string} what */
  forget(what) {
    clearTimeout(this.#begun.get(what) ?? undefined);
    this.#begun.delete(what);
  }

  end() {
    for (const what of [...this.#begun.keys()]) this.forget(what);
  }
}
