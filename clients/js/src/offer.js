/**
 * This side's offer on its way to an answer: which of its copies counts, and when it is sent once more. Owns one timer; must not touch the
 * connection (see negotiation.js).
 *
 * Why an offer is repeated: when a mailbox breaks, its peer is told (`resumed` with `recovered: false`) and restarts ICE, but the other
 * side is told nothing, and one of the two may wait for ever: for the answer to an offer that was lost, or for an answer that was lost
 * itself. Nothing that a negotiation can lose but ends in an offer without an answer, so repeating it is enough:
 * - The offer was lost: the copy takes its place. The answer was lost: the copy is answered again; to apply a description that one already has
 *   changes nothing.
 * - The offer of the impolite side was lost and the polite side offers: the impolite one ignores that (glare), and would wait for an
 *   answer to what nobody has. So it repeats its own offer soon; the polite side rolls back, answers, and offers again what is still needed.
 * - Only the answer to the latest copy counts, because only that is surely the peer's latest view: it may have added media between two copies.
 *   That ends, because the waits double, and are longer than any round trip at last.
 * A copy is the local description as it is now, so it brings the candidates along, which may be lost too.
 */

/** @typedef {import('./queue.js').Sending} Sending */

/** The first wait; it begins when the server has taken the offer, since until then the queue looks after it. */
const AGAIN_MS = 5_000;
const AGAIN_CAP_MS = 20_000;

/** The wait after an offer of the peer was ignored: in ordinary glare the answer is here before that. */
const SOON_MS = 1_000;

export class PendingOffer {
  /** The latest copy. @type {Sending | null} */
  #sending = null;
  #waitMs = AGAIN_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #taken = false;
  #again;
  #isReachable;
  #random;

  /** @param {{ again: () => void, isReachable: () => boolean, random?: () => number }} options `isReachable`: whether an answer may come now */
  constructor({ again, isReachable, random = Math.random }) {
    this.#again = again;
    this.#isReachable = isReachable;
    this.#random = random;
  }

  /** Whether there is one. */
  get isOpen() {
    return this.#sending !== null;
  }

  /** A new offer went out. @param {Sending} sending */
  begin(sending) {
    this.#waitMs = AGAIN_MS;
    this.#follow(sending);
  }

  /** A copy of the same went out. @param {Sending} sending */
  repeat(sending) {
    this.#waitMs = Math.min(this.#waitMs * 2, AGAIN_CAP_MS);
    this.#follow(sending);
  }

  /** It was answered, rolled back, or nobody wants to know any more. */
  end() {
    this.#sending = null;
    clearTimeout(this.#timer);
  }

  /** @param {number | undefined} re what an answer says it belongs to */
  isAnsweredBy(re) {
    return this.#sending !== null && (re === undefined || re === this.#sending.id);
  }

  /** The peer has an offer of its own, so it may not have this one. */
  hurry() {
    if (this.#taken) this.#arm(SOON_MS);
  }

  /** @param {Sending} sending */
  #follow(sending) {
    clearTimeout(this.#timer);
    this.#sending = sending;
    this.#taken = false;
    const armed = () => {
      if (this.#sending !== sending) return;
      this.#taken = true;
      this.#arm(this.#waitMs);
    };
    sending.done.then(armed, (error) => error.retryable && armed());
  }

  /** @param {number} waitMs */
  #arm(waitMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), waitMs * (1 + this.#random() / 2));
  }

  #look() {
    // Who is away answers when it is back; copies would only fill its mailbox.
    if (this.#isReachable()) this.#again();
    else this.#arm(this.#waitMs);
  }
}
