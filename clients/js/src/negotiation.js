/**
 * Perfect negotiation (webrtc-pc, section 10.7) between the RTCPeerConnection of this side and one
 * peer. Owns glare, the order of received frames, and the offer that an answer or candidate belongs
 * to. Does not decide when to restart ICE (see peer.js). Repeated offers repair lost frames (see
 * pending-offer.js).
 */
import { PendingOffer } from './pending-offer.js';
import { rejectDataChannels } from './sdp.js';

/**
 * @typedef {import('./messages.js').NegotiationFrame} NegotiationFrame
 * @typedef {import('./messages.js').DescriptionFrame} DescriptionFrame
 * @typedef {import('./messages.js').CandidateFrame} CandidateFrame
 * @typedef {import('./send-queue.js').PendingMessage} PendingMessage
 * @typedef {import('./send-queue.js').ClientFrame} ClientFrame
 */

/** Bounds the candidates that arrive before their description. No real gathering has so many. */
const MAX_EARLY_CANDIDATES = 256;

/** How often a refused offer is created again, and the first wait. */
const MAX_REFUSALS = 4;
const REFUSED_MS = 250;

/** How long the polite side waits for the first offer of the impolite side. */
const FIRST_OFFER_MS = 2_000;

export class Negotiation {
  #makingOffer = false;
  #ignoreOffer = false;
  #isSettingRemoteAnswerPending = false;
  #offer;
  /**
   * The offer of the current local description and its candidates.
   *
   * @type {PendingMessage | number | undefined}
   */
  #localOffer;
  /** The offer of the latest remote description. @type {number | undefined} */
  #remoteOffer;
  /** How many local descriptions are in progress; their candidates must not overtake them. */
  #describing = 0;
  /** @type {RTCIceCandidateInit[]} */
  #heldCandidates = [];
  #endSent = false;
  /** @type {CandidateFrame[]} */
  #earlyCandidates = [];
  /**
   * Whether this side may offer. At the start both sides have something to offer. A rollback of the
   * first offer costs a round trip, and in Chromium also the candidates, so the polite side waits a
   * moment. Perfect negotiation handles later glare.
   */
  #mayOffer;
  #needsOffer = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #firstOfferTimer;
  /** How many descriptions in a row the server refused because of a missing permission. */
  #refusals = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refusedTimer;
  #lastStep = Promise.resolve();
  #abort = new AbortController();
  #pc;
  #polite;
  #post;
  #onError;
  #mayUseData;

  /**
   * @param {{
   *   pc: RTCPeerConnection, polite: boolean,
   *   post: (frame: ClientFrame) => PendingMessage, onError: (error: unknown) => void,
   *   isReachable?: () => boolean, random?: () => number, mayUseData?: () => boolean,
   * }} options `post` adds the target; `isReachable`: whether this side and the peer are both
   *   connected, as far as this side knows; `mayUseData`: whether this side may have data channels
   */
  constructor({ pc, polite, post, onError, isReachable = () => true, random, mayUseData = () => true }) {
    this.#pc = pc;
    this.#polite = polite;
    this.#post = post;
    this.#onError = onError;
    this.#mayUseData = mayUseData;
    this.#offer = new PendingOffer({ onRepeat: () => this.#inOrder(() => this.#repeatOffer()), isReachable, random });
    this.#mayOffer = !polite;
    if (polite) this.#firstOfferTimer = setTimeout(() => this.#endFirstWait(), FIRST_OFFER_MS);
    const { signal } = this.#abort;
    pc.addEventListener('negotiationneeded', () => this.#onNegotiationNeeded(), { signal });
    pc.addEventListener('icecandidate', ({ candidate }) => this.#onLocalCandidate(candidate), { signal });
    pc.addEventListener('icegatheringstatechange', () => this.#onGatheringState(), { signal });
  }

  /** Handles a frame of the peer after all earlier frames. @param {NegotiationFrame} frame */
  receive(frame) {
    return this.#inOrder(() => this.#handle(frame));
  }

  /**
   * Restarts ICE, because frames may be lost and the two sides may have different descriptions;
   * media continues. A pending offer is replaced, and an answer to it is ignored. This needs no
   * rollback (the impolite side never rolls back, see peer.js).
   */
  renegotiate() {
    return this.#inOrder(async () => {
      this.#pc.restartIce();
      // In `stable`, the connection fires `negotiationneeded` itself.
      if (this.#pc.signalingState === 'have-local-offer') await this.#negotiate();
    });
  }

  /** The permissions of this side changed, so the server may now accept a refused offer. */
  onPermissions() {
    const wasRefused = this.#refusals > 0;
    this.#refusals = 0;
    if (wasRefused) this.#replaceOffer();
  }

  /** @param {() => Promise<void>} step */
  #inOrder(step) {
    this.#lastStep = this.#lastStep.then(() => (this.#abort.signal.aborted ? undefined : step())).catch((error) => this.#report(error));
    return this.#lastStep;
  }

  stop() {
    clearTimeout(this.#firstOfferTimer);
    clearTimeout(this.#refusedTimer);
    this.#offer.stop();
    this.#abort.abort();
  }

  #onNegotiationNeeded() {
    if (this.#mayOffer) void this.#negotiate();
    // If the peer offers first, the event fires again in `stable`, unless nothing is left to offer.
    else this.#needsOffer = true;
  }

  #endFirstWait() {
    this.#mayOffer = true;
    if (this.#needsOffer) void this.#negotiate();
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

  /**
   * Creates and sends the local description for the current state.
   *
   * @param {number | undefined} offerId the offer that it answers
   */
  async #describe(offerId) {
    this.#describing += 1;
    try {
      await this.#pc.setLocalDescription();
      if (!this.#abort.signal.aborted && this.#pc.localDescription) this.#sendDescription(this.#pc.localDescription, offerId);
    } finally {
      this.#describing -= 1;
      if (this.#describing === 0) for (const candidate of this.#heldCandidates.splice(0)) this.#sendCandidate(candidate);
    }
  }

  /** @param {RTCSessionDescription} description @param {number | undefined} offerId */
  #sendDescription({ type, sdp }, offerId) {
    const message = this.#post({ type, sdp: this.#filterSdp(sdp), re: offerId });
    this.#localOffer = type === 'offer' ? message : offerId;
    if (type === 'offer') this.#offer.start(message);
    this.#handleRefusal(message, type);
  }

  /** @param {string} sdp */
  #filterSdp(sdp) {
    return this.#mayUseData() ? sdp : rejectDataChannels(sdp);
  }

  /**
   * A moderator may remove a permission while a description is on its way, and the refusal may
   * arrive before the frame `permissions`. A refused offer is then created again. After a refused
   * answer, the other side repeats its offer.
   *
   * @param {PendingMessage} message
   * @param {string} type
   */
  #handleRefusal(message, type) {
    const onRefused = (/** @type {import('./codes.js').SignalingError} */ error) => {
      if (error.code !== 'not_permitted') return;
      if (this.#refusals >= MAX_REFUSALS) return this.#report(error);
      clearTimeout(this.#refusedTimer);
      if (type === 'offer') this.#refusedTimer = setTimeout(() => this.#replaceOffer(), REFUSED_MS * 2 ** this.#refusals);
      this.#refusals += 1;
    };
    message.done.then(() => (this.#refusals = 0), onRefused);
  }

  #replaceOffer() {
    clearTimeout(this.#refusedTimer);
    void this.#inOrder(async () => {
      if (this.#pc.signalingState === 'have-local-offer') await this.#negotiate();
    });
  }

  /** Sends the same offer again, with the candidates that were gathered since. */
  async #repeatOffer() {
    const { signalingState, localDescription } = this.#pc;
    if (!this.#offer.isOpen || this.#makingOffer || signalingState !== 'have-local-offer' || !localDescription) return;
    const message = this.#post({ type: 'offer', sdp: this.#filterSdp(localDescription.sdp) });
    this.#localOffer = message;
    this.#offer.repeat(message);
    this.#handleRefusal(message, 'offer');
  }

  /** @param {NegotiationFrame} frame */
  async #handle(frame) {
    if (frame.type === 'candidate') await this.#onCandidate(frame);
    else if (frame.type === 'rollback') await this.#onRollback();
    else await this.#onDescription(frame);
  }

  /** @param {DescriptionFrame} description */
  async #onDescription({ type, sdp, id, re: offerId }) {
    const pc = this.#pc;
    clearTimeout(this.#firstOfferTimer);
    this.#mayOffer = true;
    // Ignores an answer to an offer that was rolled back or repeated.
    if (type !== 'offer' && !this.#offer.isAnsweredBy(offerId)) return;

    const readyForOffer = !this.#makingOffer && (pc.signalingState === 'stable' || this.#isSettingRemoteAnswerPending);
    const offerCollision = type === 'offer' && !readyForOffer;
    this.#ignoreOffer = !this.#polite && offerCollision;
    this.#remoteOffer = type === 'offer' ? id : offerId;
    if (this.#ignoreOffer) return this.#offer.repeatSoon();

    this.#isSettingRemoteAnswerPending = type === 'answer';
    try {
      await pc.setRemoteDescription({ type, sdp: type === 'offer' ? this.#filterSdp(sdp) : sdp });
    } finally {
      this.#isSettingRemoteAnswerPending = false;
    }
    // Our offer is now answered or rolled back. After an invalid description it stays pending.
    if (type !== 'pranswer') this.#offer.stop();
    for (const early of this.#earlyCandidates.splice(0)) await this.#onCandidate(early);
    if (type === 'offer') await this.#describe(id);
  }

  async #onRollback() {
    this.#earlyCandidates = [];
    if (this.#pc.signalingState === 'have-remote-offer') await this.#pc.setRemoteDescription({ type: 'rollback' });
  }

  /** @param {CandidateFrame} frame */
  async #onCandidate(frame) {
    const { candidate, re: offerId } = frame;
    if (this.#ignoreOffer && (offerId === undefined || offerId === this.#remoteOffer)) return;
    if (!this.#pc.remoteDescription && this.#remoteOffer === undefined) {
      if (this.#earlyCandidates.length < MAX_EARLY_CANDIDATES) this.#earlyCandidates.push(frame);
      return;
    }
    if (offerId !== undefined && this.#remoteOffer !== undefined && offerId !== this.#remoteOffer) return;
    await this.#pc.addIceCandidate(candidate);
  }

  /**
   * @param {RTCIceCandidate | null} candidate null: the end of gathering, in browsers that give no
   *   end-of-candidates
   */
  #onLocalCandidate(candidate) {
    if (candidate === null && this.#endSent) return;
    const init = candidate?.toJSON() ?? { candidate: '' };
    if (init.candidate === '') this.#endSent = true;
    if (this.#describing > 0) this.#heldCandidates.push(init);
    else this.#sendCandidate(init);
  }

  #onGatheringState() {
    if (this.#pc.iceGatheringState === 'gathering') this.#endSent = false;
  }

  /** @param {RTCIceCandidateInit} candidate */
  #sendCandidate(candidate) {
    if (!this.#abort.signal.aborted) this.#post({ type: 'candidate', candidate, re: this.#localOffer });
  }

  /** Reports an error, unless the cause is the closed connection. @param {unknown} error */
  #report(error) {
    if (!this.#abort.signal.aborted) this.#onError(error);
  }
}
