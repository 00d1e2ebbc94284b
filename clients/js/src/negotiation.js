/**
 * Perfect negotiation (webrtc-pc, section 10.7) between the RTCPeerConnection of this side and one
 * peer. Owns glare, the order of received frames, and the offer that an answer or candidate belongs
 * to. Does not decide when to restart ICE (see peer.js). Repeated offers repair lost frames (see
 * pending-offer.js). After a final refusal of a description both sides go on in `stable`, and the
 * application is told once (see refused-offer.js).
 */
import { PendingOffer } from './pending-offer.js';
import { RefusedOffer } from './refused-offer.js';
import { hasDeclined, hasRepeatedMid, rejectDataChannels } from './sdp.js';
import { SignalingError } from './signaling-error.js';

/**
 * @typedef {import('./messages.js').NegotiationFrame} NegotiationFrame
 * @typedef {import('./messages.js').DescriptionFrame} DescriptionFrame
 * @typedef {import('./messages.js').CandidateFrame} CandidateFrame
 * @typedef {import('./send-queue.js').PendingMessage} PendingMessage
 * @typedef {import('./send-queue.js').ClientFrame} ClientFrame
 */

/** Bounds the candidates that arrive before their description. No real gathering has so many. */
const MAX_EARLY_CANDIDATES = 256;

/** How often a description without permission is created again, and when. */
const MAX_REFUSALS = 4;
const REFUSED_MS = 1_000;

/** After these codes the peer is gone, or this client is. */
const PEER_GONE = ['no_such_peer', 'session_gone', 'closed', 'left'];

/** How long the polite side waits for the first offer of the impolite side. */
const FIRST_OFFER_MS = 2_000;

export class Negotiation {
  #makingOffer = false;
  #ignoreOffer = false;
  #isSettingRemoteAnswerPending = false;
  #offer;
  #refusedOffer;
  /** Whether both sides have agreed on a description of this connection. */
  #hasAgreed = false;
  /** The refusals since the last agreement that were reported, as type and code. @type {Set<string>} */
  #reported = new Set();
  /** The offer that local candidates name; null if it was refused. @type {PendingMessage | number | undefined | null} */
  #localOffer;
  /** The offer of the latest remote description. @type {number | undefined} */
  #remoteOffer;
  /** How many local descriptions are in progress; their candidates must not overtake them. */
  #describing = 0;
  /** @type {RTCIceCandidateInit[]} */
  #heldCandidates = [];
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
  /** Ends with the current connection. */
  #abort = new AbortController();
  #pc;
  #options;

  /**
   * @param {{
   *   pc: RTCPeerConnection, polite: boolean,
   *   post: (frame: ClientFrame) => PendingMessage, onError: (error: unknown) => void,
   *   replaceConnection: () => RTCPeerConnection, isReachable: () => boolean,
   *   mayUseData: () => boolean, isNeeded?: boolean,
   * }} options `post` adds the target; `replaceConnection` closes the connection and returns a new
   *   one with the same media; `isReachable`: whether this side and the peer are both connected, as
   *   far as this side knows; `mayUseData`: whether this side may have data channels; `isNeeded`:
   *   whether the connection has asked for a negotiation already
   */
  constructor(options) {
    const { pc, polite, isReachable, isNeeded } = options;
    this.#options = options;
    this.#pc = pc;
    this.#offer = new PendingOffer(() => this.#inOrder(() => this.#repeatOffer()), isReachable);
    this.#refusedOffer = new RefusedOffer(() => void this.#offerIfChanged());
    this.#mayOffer = !polite;
    if (polite) this.#firstOfferTimer = setTimeout(() => this.#endFirstWait(), FIRST_OFFER_MS);
    this.#listen();
    // The application may add tracks to a new connection first.
    if (isNeeded) queueMicrotask(() => this.#onNegotiationNeeded());
  }

  #listen() {
    const { signal } = this.#abort;
    this.#pc.addEventListener('negotiationneeded', () => this.#onNegotiationNeeded(), { signal });
    this.#pc.addEventListener('icecandidate', ({ candidate }) => this.#onLocalCandidate(candidate), { signal });
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
      await this.#offerAgain();
    });
  }

  /** The tracks of this side changed. */
  onChange() {
    if (this.#refusedOffer.isOpen) void this.#offerIfChanged();
  }

  /** The permissions of this side changed, so the server may now accept a refused offer. */
  onPermissions() {
    const wasRefused = this.#refusals > 0 || this.#refusedOffer.isOpen;
    this.#refusals = 0;
    if (wasRefused) this.#replaceOffer();
  }

  stop() {
    clearTimeout(this.#firstOfferTimer);
    clearTimeout(this.#refusedTimer);
    this.#offer.stop();
    this.#refusedOffer.stop();
    this.#abort.abort();
  }

  /** @param {() => Promise<void>} step */
  #inOrder(step) {
    this.#lastStep = this.#lastStep.then(() => (this.#abort.signal.aborted ? undefined : step())).catch((error) => this.#report(error));
    return this.#lastStep;
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
    const { signal } = this.#abort;
    try {
      this.#makingOffer = true;
      this.#refusedOffer.stop();
      await this.#describe(undefined);
    } catch (error) {
      this.#report(error, signal);
    } finally {
      if (!signal.aborted) this.#makingOffer = false;
    }
  }

  /** In `stable`, the connection fires `negotiationneeded` itself. */
  async #offerAgain() {
    if (this.#pc.signalingState === 'have-local-offer' || this.#refusedOffer.isOpen) await this.#negotiate();
  }

  #replaceOffer() {
    clearTimeout(this.#refusedTimer);
    void this.#inOrder(() => this.#offerAgain());
  }

  async #offerIfChanged() {
    const { signal } = this.#abort;
    const mayOffer = () => !this.#makingOffer && this.#pc.signalingState === 'stable';
    try {
      const { sdp = '' } = mayOffer() ? await this.#pc.createOffer() : {};
      if (!this.#refusedOffer.isOpen || signal.aborted) return;
      // An offer of the peer may have arrived meanwhile.
      if (!mayOffer() || this.#refusedOffer.isRefused(sdp)) this.#refusedOffer.checkLater();
      else await this.#negotiate();
    } catch (error) {
      this.#report(error, signal);
    }
  }

  /** Creates and sends the local description. @param {number | undefined} offerId the offer that it answers */
  async #describe(offerId) {
    const pc = this.#pc;
    const { signal } = this.#abort;
    this.#describing += 1;
    try {
      await pc.setLocalDescription();
      // Firefox may use the mid of a declined section again, but not after a rollback.
      if (pc.localDescription?.type === 'offer' && hasRepeatedMid(pc.localDescription.sdp)) {
        await pc.setLocalDescription({ type: 'rollback' });
        await pc.setLocalDescription();
      }
      if (!signal.aborted && pc.localDescription) this.#sendDescription(pc.localDescription, offerId);
    } finally {
      if (!signal.aborted) this.#describing -= 1;
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

  /** Sends the same offer again, with the candidates that were gathered since. */
  async #repeatOffer() {
    const { signalingState, localDescription } = this.#pc;
    if (this.#offer.latest && !this.#makingOffer && signalingState === 'have-local-offer' && localDescription) this.#sendDescription(localDescription, undefined, true);
  }

  /** @param {RTCSessionDescriptionInit} description @param {number | undefined} offerId @param {boolean} [isCopy] */
  #sendDescription({ type, sdp = '' }, offerId, isCopy) {
    const message = this.#options.post({ type, sdp: this.#filterSdp(sdp), re: offerId });
    this.#localOffer = type === 'offer' ? message : offerId;
    if (type === 'offer') this.#offer.start(message, isCopy);
    message.done.then(() => this.#onAccepted(type), (error) => this.#onRefused(error, { type, sdp, offerId, message }));
    return message;
  }

  /** @param {string} sdp */
  #filterSdp(sdp) {
    return this.#options.mayUseData() ? sdp : rejectDataChannels(sdp);
  }

  /** @param {string} type */
  #onAccepted(type) {
    this.#refusals = 0;
    if (type !== 'offer') this.#onAgreed();
  }

  #onAgreed() {
    this.#hasAgreed = true;
    this.#reported.clear();
  }

  /**
   * A moderator may remove a permission while a description is on its way, and the refusal may
   * arrive before the frame `permissions`. A refused offer is then created again. After a refused
   * answer, the other side repeats its offer. A refusal that will not change is final.
   *
   * @param {SignalingError} error
   * @param {{ type: string, sdp: string, offerId?: number, message: PendingMessage }} description
   */
  #onRefused(error, { type, sdp, offerId, message }) {
    const { code, retryable } = error;
    // The other side is told by its `peer-left` or its snapshot.
    if (PEER_GONE.includes(code)) return;
    if (code === 'not_permitted' && this.#refusals < MAX_REFUSALS) {
      clearTimeout(this.#refusedTimer);
      if (type === 'offer') this.#refusedTimer = setTimeout(() => this.#replaceOffer(), REFUSED_MS);
      this.#refusals += 1;
    } else if (retryable && code !== 'queue_full') {
      this.#reportOnce(type, error);
    } else if (type === 'offer') {
      if (this.#localOffer === message) this.#localOffer = null;
      void this.#inOrder(async () => (this.#offer.latest === message ? this.#abandonOffer(sdp, error) : undefined));
    } else {
      this.#send({ type: 'rollback', re: offerId });
      void this.#inOrder(async () => {
        // A copy of the offer may have been answered meanwhile.
        if (!this.#hasAgreed && this.#localOffer === offerId) this.#startAgain();
        this.#reportOnce(type, error);
      });
    }
  }

  /**
   * The pending offer was refused. The offer of an existing call is rolled back.
   *
   * @param {string} sdp
   * @param {SignalingError} error
   */
  async #abandonOffer(sdp, error) {
    this.#offer.stop();
    this.#refusedOffer.open(sdp, error.retryable);
    if (!this.#hasAgreed) this.#startAgain();
    else if (this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
    this.#reportOnce('offer', error);
  }

  /**
   * Goes on with a new connection after the refusal of a first description. A first answer is applied
   * already. After the rollback of a first offer, Chromium may gather no candidates; with a data
   * channel, Firefox never connects and Chromium never opens the channel.
   */
  #startAgain() {
    this.#pc = this.#options.replaceConnection();
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#offer.stop();
    this.#makingOffer = false;
    this.#describing = 0;
    this.#localOffer = this.#remoteOffer = undefined;
    this.#heldCandidates = [];
    this.#earlyCandidates = [];
    this.#listen();
  }

  /** Sends a frame whose refusal changes nothing here. @param {ClientFrame} frame */
  #send(frame) {
    this.#options.post(frame).done.catch((error) => PEER_GONE.includes(error.code) || this.#reportOnce(frame.type, error));
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

    const readyForOffer = !this.#makingOffer && (pc.signalingState === 'stable' || this.#isSettingRemoteAnswerPending);
    const offerCollision = type === 'offer' && !readyForOffer;
    this.#ignoreOffer = !this.#options.polite && offerCollision;
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
    if (type === 'answer') {
      this.#onAgreed();
      this.#refusedOffer.onAnswered(pc.currentLocalDescription?.sdp ?? '');
    }
    for (const early of this.#earlyCandidates.splice(0)) await this.#onCandidate(early);
    if (type === 'offer') await this.#answer(id);
  }

  /** The peer has rolled its offer back, or cannot answer ours. @param {{ re?: number }} frame */
  async #onRollback({ re: offerId }) {
    this.#earlyCandidates = [];
    const { signalingState, localDescription } = this.#pc;
    if (signalingState === 'have-remote-offer') return this.#pc.setRemoteDescription({ type: 'rollback' });
    const isRefused = signalingState === 'have-local-offer' && offerId !== undefined && this.#offer.isAnsweredBy(offerId);
    if (isRefused) return this.#abandonOffer(localDescription?.sdp ?? '', new SignalingError('offer_refused', 'The peer cannot answer this offer.'));
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
      // The candidates of a section that one side has declined may still be on their way.
      if (!hasDeclined(this.#pc)) throw error;
    }
  }

  /** @param {RTCIceCandidate | null} candidate null: the end of gathering */
  #onLocalCandidate(candidate) {
    // Firefox gives an empty candidate too, shortly before the end.
    if (candidate?.candidate === '') return;
    const init = candidate?.toJSON() ?? { candidate: '' };
    if (this.#describing > 0) this.#heldCandidates.push(init);
    else this.#sendCandidate(init);
  }

  /** @param {RTCIceCandidateInit} candidate */
  #sendCandidate(candidate) {
    if (!this.#abort.signal.aborted && this.#localOffer !== null) this.#send({ type: 'candidate', candidate, re: this.#localOffer });
  }

  /**
   * Reports a refusal, unless it was reported since the last agreement.
   *
   * @param {string} type of the frame
   * @param {SignalingError} error
   */
  #reportOnce(type, error) {
    const refusal = `${type} ${error.code}`;
    if (!this.#reported.has(refusal)) this.#report(error);
    this.#reported.add(refusal);
  }

  /**
   * Reports an error, unless the cause is the closed connection.
   *
   * @param {unknown} error
   * @param {AbortSignal} [connection]
   */
  #report(error, connection = this.#abort.signal) {
    if (!connection.aborted) this.#options.onError(error);
  }
}
