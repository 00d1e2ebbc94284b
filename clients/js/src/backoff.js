/**
 * Exponential backoff with full jitter: each wait is a random number between zero and a bound
 * that doubles. So the clients of a dead node do not reconnect at the same moment. Counts
 * attempts; starts no timer.
 */
export class Backoff {
  #attempt = 0;
  #baseMs;
  #capMs;

  /** @param {number} [baseMs] the first bound @param {number} [capMs] the highest bound */
  constructor(baseMs = 500, capMs = 20_000) {
    this.#baseMs = baseMs;
    this.#capMs = capMs;
  }

  /**
   * Returns the next wait in milliseconds. The jitter is added to `floorMs`, the wait that the
   * server asked for.
   *
   * @param {number} [floorMs]
   * @param {number} [capMs] limits the jitter of this attempt further
   */
  next(floorMs = 0, capMs = this.#capMs) {
    const bound = Math.min(capMs, this.#capMs, this.#baseMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return Math.round(floorMs + Math.random() * bound);
  }

  /** Starts again with the shortest wait. */
  reset() {
    this.#attempt = 0;
  }
}
