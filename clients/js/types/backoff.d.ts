/**
 * Exponential backoff with full jitter: each wait is a random number between zero and a bound
 * that doubles. So the clients of a dead node do not reconnect at the same moment. Counts
 * attempts; starts no timer.
 */
export declare class Backoff {
    #private;
    /** @param {number} [baseMs] the first bound @param {number} [capMs] the highest bound */
    constructor(baseMs?: number, capMs?: number);
    /**
     * Returns the next wait in milliseconds. The jitter is added to `floorMs`, the wait that the
     * server asked for.
     *
     * @param {number} [floorMs]
     * @param {number} [capMs] limits the jitter of this attempt further
     */
    next(floorMs?: number, capMs?: number): number;
    /** Starts again with the shortest wait. */
    reset(): void;
}
