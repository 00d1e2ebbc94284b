/**
 * Perfect negotiation (webrtc-pc, section 10.7) between this side's RTCPeerConnection and one peer. Owns glare, the order of what is
 * received, and which offer an answer or candidate belongs to; must not decide when to restart ICE (see peer.js). What is lost on the way is
 * made up for by repeating offers (see offer.js).
 */
import { PendingOffer } from './offer.js';
import { withoutData } from './sdp.js';

/**
 * @typedef {import('./messages.js').Signal} Signal
 * @typedef {import('./messages.js').Description} Description
 * @typedef {import('./queue.js').Sending} Sending
 * @typedef {import('./queue.js').ClientFrame} ClientFrame
 */

/** Candidates that came before their description; more than any gathering makes is an attack. */
const EARLY_CANDIDATES = 256;

/** How often, and after how long at first, an offer that the server did not let through is made anew. */
const REFUSALS = 4;
const REFUSED_MS = 250;

/** How long the polite side leaves the first offer to the other one. */
const FIRST_OFFER_MS = 2_000;

export class Negotiation {
  #makingOffer = false;
  #ignoreOffer = false;
  #isSettingRemoteAnswerPending = false;
  /** This side's offer that has no answer yet. */
  #offer;
  /** The offer that this side's description, and so its candidates, belong to. @type {Sending | number | undefined} */
  #localRe;
  /** The offer that the peer's latest description belongs to. @type {number | undefined} */
  #remoteRe;
  /** Descriptions being made; candidates wait so that they never overtake theirs. */
  #describing = 0;
  /** @type {RTCIceCandidateInit[]} */
  #held = [];
  #endSent = false;
  /** @type {import('./messages.js').Candidate[]} */
  #early = [];
  /**
   * Whether this side may offer. At the beginning both have something to offer, and a rollback of a first offer costs a round trip, and
   * in Chromium the candidates too; so the polite side waits a moment. Later glare is perfect negotiation's.
   */
  #mayOffer;
  #wantsToOffer = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #patience;
  /** Offers in a row that the server did not let through, because of what this side may. */
  #refusals = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refused;
  #chain = Promise.resolve();
  #stopped = new AbortController();
  #pc;
  #polite;
  #post;
  #onError;
  #mayHaveData;

  /**
   * @param {{
   *   pc: RTCPeerConnection, polite: boolean,
   *   post: (frame: ClientFrame) => Sending, onError: (error: unknown) => void, isReachable?: () => boolean, random?: () => number,
   *   mayHaveData?: () => boolean,
   * }} options `post` adds the address; `isReachable`: whether both this side and the peer are connected, as far as is known; `mayHaveData`:
   *   whether this side may agree to data channels now
   */
  constructor({ pc, polite, post, onError, isReachable = () => true, random, mayHaveData = () => true }) {
    this.#pc = pc;
    this.#polite = polite;
    this.#post = post;
    this.#onError = onError;
    this.#mayHaveData = mayHaveData;
    this.#offer = new PendingOffer({ again: () => this.#inTurn(() => this.#offerAgain()), isReachable, random });
    this.#mayOffer = !polite;
    if (polite) this.#patience = setTimeout(() => this.#offerAfterAll(), FIRST_OFFER_MS);
    const { signal } = this.#stopped;
    pc.addEventListener('negotiationneeded', () => this.#onNegotiationNeeded(), { signal });
    pc.addEventListener('icecandidate', ({ candidate }) => this.#gathered(candidate), { signal });
    pc.addEventListener('icegatheringstatechange', () => this.#gathering(), { signal });
  }

  /** Handles what the peer sent, strictly one after the other. @param {Signal} frame */
  receive(frame) {
    return this.#inTurn(() => this.#handle(frame));
  }

  /**
   * What the two sides know of each other may differ, and candidates may be lost: ICE begins anew, media flows on meanwhile. An offer
   * without an answer is replaced, which needs no rollback (the impolite side never rolls back, see peer.js); an answer to it is void.
   */
  renegotiate() {
    return this.#inTurn(async () => {
      this.#pc.restartIce();
      // In `stable` the connection asks for it by itself.
      if (this.#pc.signalingState === 'have-local-offer') await this.#negotiate();
    });
  }

  /** What this side may is different now: an offer that was refused before has another chance. */
  allowed() {
    const isRefused = this.#refusals > 0;
    this.#refusals = 0;
    if (isRefused) this.#describeAnew();
  }

  /** @param {() => Promise<void>} step */
  #inTurn(step) {
    this.#chain = this.#chain.then(() => (this.#stopped.signal.aborted ? undefined : step())).catch((error) => this.#report(error));
    return this.#chain;
  }

  stop() {
    clearTimeout(this.#patience);
    clearTimeout(this.#refused);
    this.#offer.end();
    this.#stopped.abort();
  }

  #onNegotiationNeeded() {
    if (this.#mayOffer) void this.#negotiate();
    // Nothing is lost if an offer comes: the event is fired again in `stable`, unless the answer said it all.
    else this.#wantsToOffer = true;
  }

  #offerAfterAll() {
    this.#mayOffer = true;
    if (this.#wantsToOffer) void this.#negotiate();
  }

  async #negotiate() {
    try {
      this.#makingOffer = true;
      await this.#describe(undefined);
    } catch (error) {
      this.#report(error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /** Makes and sends the local description that the state asks for. @param {number | undefined} re the offer it answers */
  async #describe(re) {
    this.#describing += 1;
    try {
      await this.#pc.setLocalDescription();
      if (!this.#stopped.signal.aborted && this.#pc.localDescription) this.#sendDescription(this.#pc.localDescription, re);
    } finally {
      this.#describing -= 1;
      if (this.#describing === 0) for (const candidate of this.#held.splice(0)) this.#sendCandidate(candidate);
    }
  }

  /** @param {RTCSessionDescription} description @param {number | undefined} re */
  #sendDescription({ type, sdp }, re) {
    const sending = this.#post({ type, sdp: this.#permitted(sdp), re });
    this.#localRe = type === 'offer' ? sending : re;
    if (type === 'offer') this.#offer.begin(sending);
    this.#watch(sending, type);
  }

  /** @param {string} sdp */
  #permitted(sdp) {
    return this.#mayHaveData() ? sdp : withoutData(sdp);
  }

  /**
   * A moderator may take a permission away while a description is on its way, and its refusal may be here before the news of that. Then an offer is
   * made anew; the offer to an answer is repeated by the other side.
   *
   * @param {Sending} sending
   * @param {string} type
   */
  #watch(sending, type) {
    const onRefused = (/** @type {import('./codes.js').SignalingError} */ error) => {
      if (error.code !== 'not_permitted') return;
      if (this.#refusals >= REFUSALS) return this.#report(error);
      clearTimeout(this.#refused);
      if (type === 'offer') this.#refused = setTimeout(() => this.#describeAnew(), REFUSED_MS * 2 ** this.#refusals);
      this.#refusals += 1;
    };
    sending.done.then(() => (this.#refusals = 0), onRefused);
  }

  #describeAnew() {
    clearTimeout(this.#refused);
    void this.#inTurn(async () => {
      if (this.#pc.signalingState === 'have-local-offer') await this.#negotiate();
    });
  }

  /** The same offer once more, with the candidates found since. */
  async #offerAgain() {
    const { signalingState, localDescription } = this.#pc;
    if (!this.#offer.isOpen || this.#makingOffer || signalingState !== 'have-local-offer' || !localDescription) return;
    const sending = this.#post({ type: 'offer', sdp: this.#permitted(localDescription.sdp) });
    this.#localRe = sending;
    this.#offer.repeat(sending);
    this.#watch(sending, 'offer');
  }

  /** @param {Signal} frame */
  async #handle(frame) {
    if (frame.type === 'candidate') await this.#onCandidate(frame);
    else if (frame.type === 'rollback') await this.#onRollback();
    else await this.#onDescription(frame);
  }

  /** @param {Description} description */
  async #onDescription({ type, sdp, id, re }) {
    const pc = this.#pc;
    clearTimeout(this.#patience);
    this.#mayOffer = true;
    // An answer to an offer that was rolled back or repeated is void.
    if (type !== 'offer' && !this.#offer.isAnsweredBy(re)) return;

    const readyForOffer = !this.#makingOffer && (pc.signalingState === 'stable' || this.#isSettingRemoteAnswerPending);
    const offerCollision = type === 'offer' && !readyForOffer;
    this.#ignoreOffer = !this.#polite && offerCollision;
    this.#remoteRe = type === 'offer' ? id : re;
    if (this.#ignoreOffer) return this.#offer.hurry();

    this.#isSettingRemoteAnswerPending = type === 'answer';
    try {
      await pc.setRemoteDescription({ type, sdp: type === 'offer' ? this.#permitted(sdp) : sdp });
    } finally {
      this.#isSettingRemoteAnswerPending = false;
    }
    // Rolled back, or answered; not if the description was no good, since then the offer still stands.
    if (type !== 'pranswer') this.#offer.end();
    for (const early of this.#early.splice(0)) await this.#onCandidate(early);
    if (type === 'offer') await this.#describe(id);
  }

  async #onRollback() {
    this.#early = [];
    if (this.#pc.signalingState === 'have-remote-offer') await this.#pc.setRemoteDescription({ type: 'rollback' });
  }

  /** @param {import('./messages.js').Candidate} frame */
  async #onCandidate(frame) {
    const { candidate, re } = frame;
    if (this.#ignoreOffer && (re === undefined || re === this.#remoteRe)) return;
    if (!this.#pc.remoteDescription && this.#remoteRe === undefined) {
      if (this.#early.length < EARLY_CANDIDATES) this.#early.push(frame);
      return;
    }
    if (re !== undefined && this.#remoteRe !== undefined && re !== this.#remoteRe) return;
    await this.#pc.addIceCandidate(candidate);
  }

  /** @param {RTCIceCandidate | null} candidate null is the end of gathering in browsers that announce no end-of-candidates */
  #gathered(candidate) {
    if (candidate === null && this.#endSent) return;
    const init = candidate?.toJSON() ?? { candidate: '' };
    if (init.candidate === '') this.#endSent = true;
    if (this.#describing > 0) this.#held.push(init);
    else this.#sendCandidate(init);
  }

  #gathering() {
    if (this.#pc.iceGatheringState === 'gathering') this.#endSent = false;
  }

  /** @param {RTCIceCandidateInit} candidate */
  #sendCandidate(candidate) {
    if (!this.#stopped.signal.aborted) this.#post({ type: 'candidate', candidate, re: this.#localRe });
  }

  /** What fails because the connection was closed meanwhile is no news. @param {unknown} error */
  #report(error) {
    if (!this.#stopped.signal.aborted) this.#onError(error);
  }
}
