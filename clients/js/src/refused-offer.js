/**
 * An offer of this side that must not be made again: the server or the peer refused it for good, or it
 * changed nothing. The browser still needs a negotiation, but the same offer would have the same
 * result. And the browser does not report a later change: it fires `negotiationneeded` once, until the
 * next offer. So this asks regularly for a new offer, until it differs. Owns one timer. Does not touch
 * the connection (see negotiation.js).
 */
import { shapeOf } from './sdp.js';

/** How often a new offer is compared. */
const CHECK_MS = 2_000;

/** After this time the same offer is sent again, if it may pass later. */
const REPEAT_MS = 15_000;

export class RefusedOffer {
  isOpen = false;
  #shape = '';
  /** When the same offer may be sent again. */
  #repeatAt = 0;
  /** The last offer that was answered. */
  #answered = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #onCheck;

  /** @param {() => void} onCheck creates an offer and compares it, see {@link isRefused} */
  constructor(onCheck) {
    this.#onCheck = onCheck;
  }

  /**
   * The offer was refused, or changed nothing.
   *
   * @param {string} sdp
   * @param {boolean} [mayPassLater] whether the same offer may be accepted later
   */
  open(sdp, mayPassLater) {
    this.isOpen = true;
    this.#shape = shapeOf(sdp, this.#answered);
    this.#repeatAt = mayPassLater ? performance.now() + REPEAT_MS : Infinity;
    this.checkLater();
  }

  /**
   * The offer was answered. A browser may ask for the same offer again and again, for example because
   * the peer declined the data channel. That would never end.
   *
   * @param {string} sdp
   */
  onAnswered(sdp) {
    const isRepeated = sdp.includes('m=') && shapeOf(sdp, this.#answered) === shapeOf(this.#answered, this.#answered);
    this.#answered = sdp;
    if (isRepeated) this.open(sdp);
  }

  checkLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onCheck, CHECK_MS);
  }

  /** Whether this offer would be refused too. @param {string} sdp */
  isRefused(sdp) {
    return performance.now() < this.#repeatAt && shapeOf(sdp, this.#answered) === this.#shape;
  }

  /** Another offer is made. */
  stop() {
    this.isOpen = false;
    clearTimeout(this.#timer);
  }
}
