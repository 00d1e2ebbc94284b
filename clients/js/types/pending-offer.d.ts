/**
 * The offer of this side that waits for an answer: which of its copies counts, and when to send the
 * next copy. Owns one timer. Does not touch the connection (see negotiation.js).
 *
 * Why an offer is repeated: when a peer gets a new mailbox, it receives `resumed` with
 * `recovered: false` and restarts ICE. The other side receives nothing, and one of the two may wait
 * for ever, for an answer to a lost offer or for a lost answer. Each such loss leaves an offer
 * without an answer, so a repeated offer repairs all of them:
 * - The offer was lost: the copy replaces it. The answer was lost: the peer answers the copy, and
 *   applying the same description again changes nothing.
 * - The offer of the impolite side was lost, and the polite side offers. The impolite side ignores
 *   that offer (glare) and would wait for ever for an answer to its own. So it repeats its offer
 *   soon; the polite side rolls back, answers, and offers again if necessary.
 * - Only the answer to the latest copy counts, because the peer may have added media between two
 *   copies. This ends, because the waits double until they are longer than any round trip.
 * A copy is the current local description, so it also contains candidates that may be lost.
 */
export type PendingMessage = import('./send-queue.js').PendingMessage;
export declare class PendingOffer {
    #private;
    /** The latest copy; null without a pending offer. @type {PendingMessage | null} */
    latest: PendingMessage | null;
    /** @param {() => void} onRepeat @param {() => boolean} isReachable whether an answer may come now */
    constructor(onRepeat: () => void, isReachable: () => boolean);
    /**
     * @param {PendingMessage} offer
     * @param {boolean} [isCopy] whether it repeats the pending offer
     */
    start(offer: PendingMessage, isCopy?: boolean): void;
    /** The offer was answered or rolled back, or the negotiation stops. */
    stop(): void;
    /** @param {number | undefined} offerId the offer that an answer names */
    isAnsweredBy(offerId: number | undefined): boolean;
    /** The peer offers too, so it may not have received this offer. */
    repeatSoon(): void;
}
