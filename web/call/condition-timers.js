/** Tells whether a condition has been true for a given time. Owns one timer for each condition. */
export class ConditionTimers {
  /**
   * Condition → its timer, or null after the timer has ended.
   *
   * @type {Map<string, ReturnType<typeof setTimeout> | null>}
   */
  #timers = new Map();
  #onElapsed;

  /** @param {() => void} onElapsed the time of a condition has ended */
  constructor(onElapsed) {
    this.#onElapsed = onElapsed;
  }

  /**
   * Updates a condition.
   *
   * @param {string} condition
   * @param {boolean} isTrue whether it is true now
   * @param {number} ms the time that it must be true
   * @returns {boolean} whether it has been true for that time
   */
  update(condition, isTrue, ms) {
    if (isTrue && !this.#timers.has(condition)) {
      const onTimer = () => {
        this.#timers.set(condition, null);
        this.#onElapsed();
      };
      this.#timers.set(condition, setTimeout(onTimer, ms));
    }
    if (!isTrue) this.forget(condition);
    return this.#timers.get(condition) === null;
  }

  /** @param {string} condition */
  forget(condition) {
    clearTimeout(this.#timers.get(condition) ?? undefined);
    this.#timers.delete(condition);
  }

  stop() {
    for (const condition of [...this.#timers.keys()]) this.forget(condition);
  }
}
