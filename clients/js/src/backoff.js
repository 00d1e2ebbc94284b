/**
 * Exponential backoff with full jitter: each wait is drawn evenly from zero to a bound that doubles, so that the clients of a
 * node that died do not come back in step. Owns the count of attempts and no timer.
 */
export class Backoff {
  #attempt = 0;
  #baseMs;
  #capMs;
  #random;

  /** @param {{ baseMs?: number, capMs?: number, random?: () => number }} [options] */
  constructor({ baseMs = 500, capMs = 20_000, random = Math.random } = {}) {
    this.#baseMs = baseMs;
    this.#capMs = capMs;
    this.#random = random;
  }

  /**
   * The next wait in milliseconds, never under `floorMs`: what the server asked for comes before the jitter, not instead of it.
   *
   * @param {number} [floorMs]
   * @param {number} [capMs] where the wait must be shorter than it might be
   */
  next(floorMs = 0, capMs = this.#capMs) {
    const bound = Math.min(capMs, this.#capMs, this.#baseMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return Math.round(floorMs + this.#random() * bound);
  }

  /** After a connection that held. */
  reset() {
    this.#attempt = 0;
  }
}
