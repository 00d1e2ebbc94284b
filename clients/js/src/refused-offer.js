/**
 * An offer of this side that must not be made again: the server or the peer refused it for good and
 * it was rolled back, or it changed nothing. The browser still needs a negotiation, but the same offer
 * would have the same result. And the browser does not report a later change: it fires
 * `negotiationneeded` once, until the next offer. So this asks regularly for a new offer, until it
 * differs. Owns one timer. Does not touch the connection (see negotiation.js).
 */
import { shapeOf } from './sdp.js';

/** How often a new offer is compared; after several refusals in a row up to the cap. */
const CHECK_MS = 2_000;
const CHECK_CAP_MS = 8_000;

/** How long the same offer is not sent again, if it may pass later: this long, doubling to the cap. */
const REPEAT_MS = 2_000;
const REPEAT_CAP_MS = 32_000;

export class RefusedOffer {
  #isOpen = false;
  #shape = '';
  #mayPassLater = false;
  /** How many offers in a row were refused. */
  #refusals = 0;
  #since = 0;
  /** The last offer that was answered. */
  #answered = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #onCheck;

  /** @param {() => void} onCheck creates an offer and compares it, see {@link isRefused} */
  constructor(onCheck) {
    this.#onCheck = onCheck;
  }

  get isOpen() {
    return this.#isOpen;
  }

  /**
   * The offer was refused.
   *
   * @param {string} sdp
   * @param {boolean} mayPassLater whether the same offer may be accepted later
   */
  refuse(sdp, mayPassLater) {
    this.#refusals += 1;
    this.#open(sdp, mayPassLater);
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
    if (isRepeated) this.#open(sdp, false);
  }

  /** The server accepted an offer. */
  accept() {
    this.#refusals = 0;
  }

  /** @param {string} sdp @param {boolean} mayPassLater */
  #open(sdp, mayPassLater) {
    this.#isOpen = true;
    this.#mayPassLater = mayPassLater;
    this.#shape = shapeOf(sdp, this.#answered);
    this.#since = performance.now();
    this.checkLater();
  }

  checkLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onCheck, Math.min(CHECK_MS * Math.max(1, this.#refusals), CHECK_CAP_MS));
  }

  /** This side has changed. After a refusal only the timer checks, so that no loop is possible. */
  checkNow() {
    if (this.#isOpen && this.#refusals === 0) this.#onCheck();
  }

  /** Whether this offer would be refused too. @param {string} sdp */
  isRefused(sdp) {
    const repeatMs = Math.min(REPEAT_MS * 2 ** (this.#refusals - 1), REPEAT_CAP_MS);
    const isTooEarly = !this.#mayPassLater || performance.now() - this.#since < repeatMs;
    return isTooEarly && shapeOf(sdp, this.#answered) === this.#shape;
  }

  /** Another offer is made. */
  stop() {
    this.#isOpen = false;
    clearTimeout(this.#timer);
  }
}
