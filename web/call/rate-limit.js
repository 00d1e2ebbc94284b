/** Allows an action a number of times within a time. */
export class RateLimit {
  /** The times of the latest actions, the oldest first. @type {number[]} */
  #times = [];
  #count;
  #withinMs;

  /** @param {number} count @param {number} withinMs */
  constructor(count, withinMs) {
    this.#count = count;
    this.#withinMs = withinMs;
  }

  /** Whether the action is allowed now; if so, it counts. @param {number} [now] milliseconds of a clock that never jumps */
  allows(now = performance.now()) {
    this.#times = this.#times.filter((time) => now - time < this.#withinMs);
    if (this.#times.length >= this.#count) return false;
    this.#times.push(now);
    return true;
  }
}
