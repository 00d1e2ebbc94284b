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

/** @typedef {import('./send-queue.js').PendingMessage} PendingMessage */

/** The first wait, after the server accepted the offer; before that the send queue retries it. */
const REPEAT_MS = 5_000;
const REPEAT_CAP_MS = 20_000;

/** The wait after an ignored offer of the peer. In ordinary glare the answer arrives earlier. */
const REPEAT_SOON_MS = 1_000;

export class PendingOffer {
  /** The latest copy; null without a pending offer. @type {PendingMessage | null} */
  latest = null;
  #waitMs = REPEAT_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether the server has accepted the latest copy. */
  #accepted = false;
  #onRepeat;
  #isReachable;

  /** @param {() => void} onRepeat @param {() => boolean} isReachable whether an answer may come now */
  constructor(onRepeat, isReachable) {
    this.#onRepeat = onRepeat;
    this.#isReachable = isReachable;
  }

  /**
   * @param {PendingMessage} offer
   * @param {boolean} [isCopy] whether it repeats the pending offer
   */
  start(offer, isCopy) {
    this.#waitMs = isCopy ? Math.min(this.#waitMs * 2, REPEAT_CAP_MS) : REPEAT_MS;
    this.latest = offer;
    this.#accepted = false;
    clearTimeout(this.#timer);
    const onAccepted = () => {
      if (this.latest !== offer) return;
      this.#accepted = true;
      this.#schedule(this.#waitMs);
    };
    offer.done.then(onAccepted, (error) => error.retryable && onAccepted());
  }

  /** The offer was answered or rolled back, or the negotiation stops. */
  stop() {
    this.latest = null;
    clearTimeout(this.#timer);
  }

  /** @param {number | undefined} offerId the offer that an answer names */
  isAnsweredBy(offerId) {
    return this.latest !== null && (offerId === undefined || offerId === this.latest.id);
  }

  /** The peer offers too, so it may not have received this offer. */
  repeatSoon() {
    if (this.#accepted) this.#schedule(REPEAT_SOON_MS);
  }

  /** @param {number} waitMs */
  #schedule(waitMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#repeatIfReachable(), waitMs * (1 + Math.random() / 2));
  }

  #repeatIfReachable() {
    // A detached peer answers after its resume; copies would only fill its mailbox.
    if (this.#isReachable()) this.#onRepeat();
    else this.#schedule(this.#waitMs);
  }
}
