/**
 * Perfect negotiation (webrtc-pc, section 10.7) between the RTCPeerConnection of this side and one
 * peer. Owns glare, the order of received frames, and the offer that an answer or candidate belongs
 * to. Does not decide when to restart ICE (see peer.js). Repeated offers repair lost frames (see
 * pending-offer.js). After a final refusal of a description both sides go on in `stable`, the
 * application is told once, and the next offer waits for a change.
 */
import { PendingOffer } from './pending-offer.js';
import { fingerprintOf, hasDeclined, hasRepeatedMid, rejectDataChannels } from './sdp.js';
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

/**
 * The wait after a final refusal, unless something changes: the browser does not report a change. It
 * is shorter as soon as the two sides agree on something else.
 */
const HELD_MS = 15_000;
const HELD_AGREED_MS = 1_000;

/**
 * A browser may ask for the same offer again and again, for example because the peer declines the data
 * channel: right after each answer, and without a change. Then the wait doubles each time, from the
 * second one on.
 */
const LOOP_MS = 200;

/** After these codes the peer is gone, or this client is. */
const PEER_GONE = ['no_such_peer', 'session_gone', 'closed', 'left'];

/** How long the polite side waits for the first offer of the impolite side. */
const FIRST_OFFER_MS = 2_000;

export class Negotiation {
  #makingOffer = false;
  #ignoreOffer = false;
  #isSettingRemoteAnswerPending = false;
  #offer;
  /** Whether both sides have agreed on a description of this connection. */
  #hasAgreed = false;
  /** The refusals since the last change that were reported, as type and code. @type {Set<string>} */
  #reported = new Set();
  /** The offer that local candidates name; null if it was refused. @type {PendingMessage | number | undefined | null} */
  #localOffer;
  /** The offer of the latest remote description. @type {number | undefined} */
  #remoteOffer;
  /** The certificate of the connection of the peer: another one belongs to a new connection. @type {string | undefined} */
  #fingerprint;
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
  /** Whether the next offer waits, because the last one was refused or changed nothing. */
  #isHeld = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #heldTimer;
  /** How many offers in a row may have been such a loop. */
  #loops = 0;
  /** When an offer of this side was answered, and whether this side has changed since it was made. */
  #answeredAt = -Infinity;
  #hasChanged = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #firstOfferTimer;
  /** How many descriptions in a row the server refused because of a missing permission. */
  #refusals = 0;
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
   *   mayUseData: () => boolean,
   * }} options `post` adds the target; `replaceConnection` closes the connection and returns a new
   *   one with the same media; `isReachable`: whether this side and the peer are both connected, as
   *   far as this side knows; `mayUseData`: whether this side may have data channels
   */
  constructor(options) {
    const { pc, polite, isReachable } = options;
    this.#options = options;
    this.#pc = pc;
    this.#offer = new PendingOffer(() => this.#inOrder(() => this.#repeatOffer()), isReachable);
    this.#mayOffer = !polite;
    if (polite) this.#firstOfferTimer = setTimeout(() => this.#endFirstWait(), FIRST_OFFER_MS);
    this.#listen();
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
      this.#hasChanged = true;
      if (this.#isHeld || this.#pc.signalingState === 'have-local-offer') await this.#negotiate();
    });
  }

  /** Goes on with a new connection, which makes an offer. */
  startAgain() {
    return this.#inOrder(async () => {
      this.#isHeld = false;
      this.#startAgain();
    });
  }

  /** The tracks of this side changed, or its permissions: the server may accept another offer now. */
  onChange() {
    this.#hasChanged = true;
    this.#refusals = 0;
    this.#reported.clear();
    this.#endHold();
  }

  stop() {
    clearTimeout(this.#firstOfferTimer);
    clearTimeout(this.#heldTimer);
    this.#offer.stop();
    this.#abort.abort();
  }

  /** @param {() => Promise<void>} step */
  #inOrder(step) {
    this.#lastStep = this.#lastStep.then(() => (this.#abort.signal.aborted ? undefined : step())).catch((error) => this.#report(error));
    return this.#lastStep;
  }

  #onNegotiationNeeded() {
    // If the peer offers first, the event fires again in `stable`, unless nothing is left to offer.
    this.#needsOffer = true;
    if (this.#isHeld || !this.#mayOffer) return;
    const isLoop = !this.#hasChanged && performance.now() - this.#answeredAt < LOOP_MS;
    this.#loops = isLoop ? this.#loops + 1 : 0;
    if (this.#loops > 1) this.#hold(250 * 2 ** this.#loops);
    else void this.#negotiate();
  }

  #endFirstWait() {
    this.#mayOffer = true;
    if (this.#needsOffer && !this.#isHeld) void this.#negotiate();
  }

  /** The next offer waits, but not longer than this. @param {number} ms */
  #hold(ms) {
    this.#isHeld = true;
    clearTimeout(this.#heldTimer);
    this.#heldTimer = setTimeout(() => this.#endHold(), ms);
  }

  /** In the place of the offer that was refused. */
  #endHold() {
    clearTimeout(this.#heldTimer);
    if (this.#isHeld) void this.#inOrder(() => this.#negotiate());
  }

  async #negotiate() {
    const { signal } = this.#abort;
    try {
      this.#makingOffer = true;
      this.#isHeld = this.#needsOffer = this.#hasChanged = false;
      await this.#describe(undefined);
    } catch (error) {
      this.#report(error, signal);
    } finally {
      if (!signal.aborted) this.#makingOffer = false;
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
    message.done.then(() => this.#onAccepted(type), (error) => this.#onRefused(error, type, offerId, message));
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
    if (this.#isHeld) this.#hold(HELD_AGREED_MS);
  }

  /**
   * A moderator may remove a permission while a description is on its way, and the refusal may
   * arrive before the frame `permissions`. A refused offer is then created again. After a refused
   * answer, the other side repeats its offer. A refusal that will not change is final.
   *
   * @param {SignalingError} error
   * @param {string} type
   * @param {number | undefined} offerId
   * @param {PendingMessage} message
   */
  #onRefused(error, type, offerId, message) {
    const { code, retryable } = error;
    // The other side is told by its `peer-left` or its snapshot.
    if (PEER_GONE.includes(code)) return;
    if (code === 'not_permitted' && this.#refusals < MAX_REFUSALS) {
      if (type === 'offer') this.#hold(REFUSED_MS);
      this.#refusals += 1;
    } else if (retryable && code !== 'queue_full') {
      this.#reportOnce(type, error);
    } else if (type === 'offer') {
      if (this.#localOffer === message) this.#localOffer = null;
      void this.#inOrder(async () => (this.#offer.latest === message ? this.#abandonOffer(error) : undefined));
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
   * @param {SignalingError} error
   */
  async #abandonOffer(error) {
    this.#offer.stop();
    this.#hold(HELD_MS);
    if (!this.#hasAgreed) this.#startAgain();
    else if (this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
    this.#reportOnce('offer', error);
  }

  /**
   * Goes on with a new connection: if ICE restarts have no success, or after the refusal of a first
   * description. A first answer is applied already. After the rollback of a first offer, Chromium may
   * gather no candidates; with a data channel, Firefox never connects and Chromium never opens the
   * channel.
   */
  #startAgain() {
    this.#pc = this.#options.replaceConnection();
    this.#hasAgreed = false;
    this.#hasChanged = true;
    this.#fingerprint = undefined;
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
    clearTimeout(this.#firstOfferTimer);
    this.#mayOffer = true;
    // Ignores an answer to an offer that was rolled back or repeated.
    if (type !== 'offer' && !this.#offer.isAnsweredBy(offerId)) return;
    const fingerprint = fingerprintOf(sdp);
    // The peer has a new connection, so this side needs one too.
    if (type === 'offer' && this.#fingerprint && fingerprint !== this.#fingerprint) this.#startAgain();
    const pc = this.#pc;

    const readyForOffer = !this.#makingOffer && (pc.signalingState === 'stable' || this.#isSettingRemoteAnswerPending);
    const offerCollision = type === 'offer' && !readyForOffer;
    this.#ignoreOffer = !this.#options.polite && offerCollision;
    this.#remoteOffer = type === 'offer' ? id : offerId;
    if (this.#ignoreOffer) return this.#offer.repeatSoon();
    this.#fingerprint = fingerprint;

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
      this.#reported.clear();
      this.#answeredAt = performance.now();
    }
    for (const early of this.#earlyCandidates.splice(0)) await this.#onCandidate(early);
    if (type === 'offer') await this.#answer(id);
  }

  /** The peer has rolled its offer back, or cannot answer ours. @param {{ re?: number }} frame */
  async #onRollback({ re: offerId }) {
    this.#earlyCandidates = [];
    const { signalingState } = this.#pc;
    if (signalingState === 'have-remote-offer') return this.#pc.setRemoteDescription({ type: 'rollback' });
    const isRefused = signalingState === 'have-local-offer' && offerId !== undefined && this.#offer.isAnsweredBy(offerId);
    if (isRefused) return this.#abandonOffer(new SignalingError('offer_refused', 'The peer cannot answer this offer.'));
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
   * Reports a refusal, unless it was reported since the last change.
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
