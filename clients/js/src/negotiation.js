/**
 * Perfect negotiation (webrtc-pc, section 10.7) between the RTCPeerConnection of this side and one
 * peer. Owns glare, the order of received frames, and the offer that an answer or candidate belongs
 * to. Does not decide when to restart ICE (see peer.js). Repeated offers repair lost frames (see
 * pending-offer.js). After a final refusal of a description both sides return to `stable`, and the
 * application is told once (see refused-offer.js).
 */
import { SignalingError } from './codes.js';
import { PendingOffer } from './pending-offer.js';
import { RefusedOffer } from './refused-offer.js';
import { hasRepeatedMid, isDeclined, rejectDataChannels } from './sdp.js';

/**
 * @typedef {import('./messages.js').NegotiationFrame} NegotiationFrame
 * @typedef {import('./messages.js').DescriptionFrame} DescriptionFrame
 * @typedef {import('./messages.js').CandidateFrame} CandidateFrame
 * @typedef {import('./send-queue.js').PendingMessage} PendingMessage
 * @typedef {import('./send-queue.js').ClientFrame} ClientFrame
 */

/** Bounds the candidates that arrive before their description. No real gathering has so many. */
const MAX_EARLY_CANDIDATES = 256;

/** How often an offer without permission is created again, and the first wait. */
const MAX_REFUSALS = 4;
const REFUSED_MS = 250;

/** After these codes the peer is gone, or this client is. */
const PEER_GONE = new Set(['no_such_peer', 'session_gone', 'closed', 'left']);

/** How long the polite side waits for the first offer of the impolite side. */
const FIRST_OFFER_MS = 2_000;

export class Negotiation {
  #makingOffer = false;
  #ignoreOffer = false;
  #isSettingRemoteAnswerPending = false;
  #offer;
  #refusedOffer;
  /** The refusals that were reported, as type and code. @type {Set<string>} */
  #reported = new Set();
  /** The offer that local candidates name; null if it was refused. @type {PendingMessage | number | undefined | null} */
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
  /** Type → how many descriptions in a row the server refused because of a missing permission. */
  #refusals = new Map();
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
    this.#refusedOffer = new RefusedOffer(() => void this.#offerIfChanged());
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
      if (this.#pc.signalingState === 'have-local-offer' || this.#refusedOffer.isOpen) await this.#negotiate();
    });
  }

  /** The tracks of this side changed. */
  onChange() {
    this.#refusedOffer.checkNow();
  }

  /** The permissions of this side changed, so the server may now accept a refused offer. */
  onPermissions() {
    const wasRefused = this.#refusals.size > 0 || this.#refusedOffer.isOpen;
    this.#refusals.clear();
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
    this.#refusedOffer.stop();
    this.#abort.abort();
  }

  #onNegotiationNeeded() {
    // The event follows each rollback and each declined data channel. An answer would be a loop.
    if (this.#refusedOffer.isOpen) return;
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
      this.#refusedOffer.stop();
      await this.#describe(undefined);
    } catch (error) {
      this.#report(error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /** Creates and sends the local description. @param {number | undefined} offerId the offer that it answers */
  async #describe(offerId) {
    this.#describing += 1;
    try {
      await this.#pc.setLocalDescription();
      // Firefox may use the mid of a declined section again, but not after a rollback.
      if (this.#pc.localDescription?.type === 'offer' && hasRepeatedMid(this.#pc.localDescription.sdp)) {
        await this.#pc.setLocalDescription({ type: 'rollback' });
        await this.#pc.setLocalDescription();
      }
      if (!this.#abort.signal.aborted && this.#pc.localDescription) this.#sendDescription(this.#pc.localDescription, offerId);
    } finally {
      this.#describing -= 1;
      if (this.#describing === 0) for (const candidate of this.#heldCandidates.splice(0)) this.#sendCandidate(candidate);
    }
  }

  /**
   * Applies and sends the first answer at once, because it starts ICE. An applied answer cannot be
   * rolled back, so a later answer is applied when the server has accepted it.
   *
   * @param {number | undefined} offerId
   */
  async #answer(offerId) {
    if (!this.#pc.currentLocalDescription) return this.#describe(offerId);
    const answer = await this.#pc.createAnswer();
    const message = this.#sendDescription(answer, offerId);
    const accepted = await message.done.then(() => true, () => false);
    if (this.#abort.signal.aborted) return undefined;
    return accepted ? this.#pc.setLocalDescription(answer) : this.#onRollback({});
  }

  /** @param {RTCSessionDescriptionInit} description @param {number | undefined} offerId */
  #sendDescription({ type, sdp = '' }, offerId) {
    const message = this.#post({ type, sdp: this.#filterSdp(sdp), re: offerId });
    this.#localOffer = type === 'offer' ? message : offerId;
    if (type === 'offer') this.#offer.start(message);
    this.#handleRefusal(message, { type, sdp, offerId });
    return message;
  }

  /** @param {string} sdp */
  #filterSdp(sdp) {
    return this.#mayUseData() ? sdp : rejectDataChannels(sdp);
  }

  /**
   * A moderator may remove a permission while a description is on its way, and the refusal may
   * arrive before the frame `permissions`. A refused offer is then created again. After a refused
   * answer, the other side repeats its offer. A refusal that will not change is final.
   *
   * @param {PendingMessage} message
   * @param {{ type: string, sdp: string, offerId?: number }} description
   */
  #handleRefusal(message, { type, sdp, offerId }) {
    const onAccepted = () => {
      this.#refusals.delete(type);
      if (type === 'offer') this.#refusedOffer.accept();
      for (const refusal of this.#reported) if (!/^(offer|answer)/.test(refusal) || refusal.startsWith(type)) this.#reported.delete(refusal);
    };
    const onRefused = (/** @type {SignalingError} */ error) => {
      const refusals = this.#refusals.get(type) ?? 0;
      if (error.code === 'not_permitted' && refusals < MAX_REFUSALS) {
        clearTimeout(this.#refusedTimer);
        if (type === 'offer') this.#refusedTimer = setTimeout(() => this.#replaceOffer(), REFUSED_MS * 2 ** refusals);
        this.#refusals.set(type, refusals + 1);
      } else if (PEER_GONE.has(error.code)) {
        // The other side is told by its `peer-left` or its snapshot.
      } else if (error.retryable && error.code !== 'queue_full') {
        this.#reportOnce(type, error);
      } else if (type === 'offer') {
        if (this.#localOffer === message) this.#localOffer = null;
        void this.#inOrder(async () => (this.#offer.isLatest(message) ? this.#abandonOffer(sdp, error) : undefined));
      } else {
        this.#reportOnce(type, error);
        this.#send({ type: 'rollback', re: offerId });
      }
    };
    message.done.then(onAccepted, onRefused);
  }

  /**
   * Rolls the pending offer back, because it was refused. After the rollback of a first offer with a
   * data channel, Firefox never connects and Chromium never opens the channel. So such an offer stays
   * until another one replaces it.
   *
   * @param {string} sdp
   * @param {SignalingError} error
   */
  async #abandonOffer(sdp, error) {
    this.#offer.stop();
    this.#refusedOffer.refuse(sdp, error.retryable);
    this.#reportOnce('offer', error);
    const keepsChannel = !this.#pc.currentLocalDescription && /^m=application /m.test(sdp);
    if (!keepsChannel && this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
  }

  async #offerIfChanged() {
    const mayOffer = () => !this.#makingOffer && ['stable', 'have-local-offer'].includes(this.#pc.signalingState);
    try {
      const { sdp = '' } = mayOffer() ? await this.#pc.createOffer() : {};
      if (!this.#refusedOffer.isOpen || this.#abort.signal.aborted) return;
      // An offer of the peer may have arrived meanwhile.
      if (!mayOffer() || this.#refusedOffer.isRefused(sdp)) this.#refusedOffer.checkLater();
      else await this.#negotiate();
    } catch (error) {
      this.#report(error);
    }
  }

  #replaceOffer() {
    clearTimeout(this.#refusedTimer);
    void this.#inOrder(async () => {
      if (this.#pc.signalingState === 'have-local-offer' || this.#refusedOffer.isOpen) await this.#negotiate();
    });
  }

  /** Sends a frame whose refusal changes nothing here. @param {ClientFrame} frame */
  #send(frame) {
    this.#post(frame).done.catch((error) => PEER_GONE.has(error.code) || this.#reportOnce(frame.type, error));
  }

  /** Sends the same offer again, with the candidates that were gathered since. */
  async #repeatOffer() {
    const { signalingState, localDescription } = this.#pc;
    if (!this.#offer.isOpen || this.#makingOffer || signalingState !== 'have-local-offer' || !localDescription) return;
    const message = this.#post({ type: 'offer', sdp: this.#filterSdp(localDescription.sdp) });
    this.#localOffer = message;
    this.#offer.repeat(message);
    this.#handleRefusal(message, localDescription);
  }

  /** @param {NegotiationFrame} frame */
  async #handle(frame) {
    if (frame.type === 'candidate') await this.#onCandidate(frame);
    else if (frame.type === 'rollback') await this.#onRollback(frame);
    else await this.#onDescription(frame);
  }

  /** @param {DescriptionFrame} description */
  async #onDescription({ type, sdp, id, re: offerId }) {
    const pc = this.#pc;
    clearTimeout(this.#firstOfferTimer);
    this.#mayOffer = true;
    // Ignores an answer to an offer that was rolled back or repeated.
    if (type !== 'offer' && !this.#offer.isAnsweredBy(offerId)) return;

    const isSettled = pc.signalingState === 'stable' || this.#isSettingRemoteAnswerPending || this.#refusedOffer.isOpen;
    const readyForOffer = !this.#makingOffer && isSettled;
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
    if (type === 'answer') this.#refusedOffer.onAnswered(pc.currentLocalDescription?.sdp ?? '');
    for (const early of this.#earlyCandidates.splice(0)) await this.#onCandidate(early);
    if (type === 'offer') await this.#answer(id);
  }

  /** The peer has rolled its offer back, or cannot answer ours. @param {{ re?: number }} frame */
  async #onRollback({ re: offerId }) {
    this.#earlyCandidates = [];
    const { signalingState, localDescription } = this.#pc;
    if (signalingState === 'have-remote-offer') await this.#pc.setRemoteDescription({ type: 'rollback' });
    if (signalingState !== 'have-local-offer' || offerId === undefined || !localDescription) return;
    if (this.#offer.isAnsweredBy(offerId)) await this.#abandonOffer(localDescription.sdp, new SignalingError('offer_refused', 'The peer cannot answer this offer.'));
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
    try {
      await this.#pc.addIceCandidate(candidate);
    } catch (error) {
      // The candidates of a section that this side has declined may still be on their way.
      if (!isDeclined(this.#pc, candidate)) throw error;
    }
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
    if (!this.#abort.signal.aborted && this.#localOffer !== null) this.#send({ type: 'candidate', candidate, re: this.#localOffer });
  }

  /**
   * Reports a refusal, unless it was reported since the last accepted description of this type.
   *
   * @param {string} type of the frame
   * @param {SignalingError} error
   */
  #reportOnce(type, error) {
    const refusal = `${type} ${error.code}`;
    if (!this.#reported.has(refusal)) this.#report(error);
    this.#reported.add(refusal);
  }

  /** Reports an error, unless the cause is the closed connection. @param {unknown} error */
  #report(error) {
    if (!this.#abort.signal.aborted) this.#onError(error);
  }
}
