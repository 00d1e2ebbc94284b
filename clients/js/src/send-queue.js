/**
 * The ordered queue of sends. It gives each send an id, keeps it until the server answers, over any
 * number of connections, and sends it again after a temporary refusal (docs/PROTOCOL.md, section
 * 3.2). Owns ids, order and bounds. Does not know sockets.
 *
 * A refused send blocks the later sends to the same targets only, so peers of one node continue
 * while the store is unavailable. When the retry time has come, the queue stops until all answers
 * on their way have arrived, and then sends all refused sends again, lowest id first. The stop is
 * necessary. A server whose store is available again refuses every id after the first refused one
 * until that one arrives, and then forgets the refused ids after it. Without the stop, the server
 * could refuse one later send and accept the next. The refused send would then count as a duplicate
 * and be lost.
 */
import { SignalingError, isRetriedByQueue } from './codes.js';

/**
 * @typedef {import('./messages.js').Ack} Ack
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {{ type: string, to?: string, re?: number | PendingSend,
 *   [member: string]: unknown }} ClientFrame
 */

/** How many sends may wait for an answer at a time. It also bounds the refusals in a row. */
const MAX_IN_FLIGHT = 64;

/** The wait after a refusal without `retryMs`. */
const DEFAULT_RETRY_MS = 500;

const encoder = new TextEncoder();

/** One send that the server has not answered. */
export class PendingSend {
  /** The message id, from the first transmission on. @type {number | undefined} */
  id;
  /** `refused`: waits for the retry time. @type {'ready' | 'sent' | 'refused'} */
  state = 'ready';
  /** When a full mailbox first refused it. @type {number | undefined} */
  backloggedAt;
  /** The last refusal. @type {SignalingError | undefined} */
  refusal;

  /** @param {ClientFrame} frame */
  constructor(frame) {
    this.frame = frame;
    /** @type {(ack: Ack) => void} */
    this.resolve = () => {};
    /** @type {(error: SignalingError) => void} */
    this.reject = () => {};
    /** Settles with the answer of the server. @type {Promise<Ack>} */
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  /** Returns the frame as text. An offer in `re` is ahead in the queue, so it has an id. */
  encode() {
    const { re } = this.frame;
    return JSON.stringify({ ...this.frame, id: this.id, re: re instanceof PendingSend ? re.id : re });
  }
}

export class SendQueue {
  /** Without an answer; sends to the same target in their order. @type {PendingSend[]} */
  #sends = [];
  #lastId = 0;
  #open = false;
  #frameBytes = Infinity;
  /** When refused sends are sent again; 0 without a refusal. */
  #retryAt = 0;
  /** Nothing may be sent: the connection was refused, or a retry waits for answers on their way. */
  #blocked = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #transmit;
  #capacity;
  #giveUpMs;
  #random;

  /**
   * @param {(text: string) => void} transmit
   * @param {{ capacity?: number, giveUpMs?: number, random?: () => number }} [options] `giveUpMs`:
   *   how long a send to a full mailbox is retried before it is rejected
   */
  constructor(transmit, { capacity = 256, giveUpMs = 15_000, random = Math.random } = {}) {
    this.#transmit = transmit;
    this.#capacity = capacity;
    this.#giveUpMs = giveUpMs;
    this.#random = random;
  }

  /** How many sends wait for an answer. */
  get size() {
    return this.#sends.length;
  }

  /**
   * Sends a frame now, or when a connection is open.
   *
   * @param {ClientFrame} frame
   */
  push(frame) {
    const send = new PendingSend(frame);
    if (this.#sends.length >= this.#capacity) {
      send.reject(new SignalingError('queue_full', `The queue is full: ${this.#capacity} messages wait for an answer.`));
      return send;
    }
    this.#sends.push(send);
    this.#sendReady();
    return send;
  }

  /**
   * The connection has joined.
   *
   * @param {number} frameBytes the limit for one frame; the server closes after a longer one
   */
  open(frameBytes) {
    this.#open = true;
    this.#frameBytes = frameBytes;
    this.#sendReady();
  }

  /** The connection is lost. {@link resume} or {@link rejoin} decides about the pending sends. */
  pause() {
    this.#open = false;
    this.#endRetry();
  }

  /**
   * This peer was resumed, and the server has accepted its sends up to `lastId`. The next
   * {@link open} sends the rest again with the same ids.
   *
   * @param {number} lastId
   */
  resume(lastId) {
    this.pause();
    this.#lastId = Math.max(this.#lastId, lastId);
    for (const send of this.#makeReady()) {
      if (send.id === undefined || send.id > lastId) continue;
      this.#sends.splice(this.#sends.indexOf(send), 1);
      send.resolve({ type: 'ack', id: send.id, duplicate: true });
    }
  }

  /**
   * This client has joined as a new peer. Sends without an answer are rejected. Sends that were not
   * transmitted stay if they do not depend on the old peer and their target is in the room.
   *
   * @param {(peerId: string) => boolean} isPresent
   */
  rejoin(isPresent) {
    const kept = [];
    for (const send of this.#sends) {
      const error = errorAfterRejoin(send, isPresent);
      if (error) send.reject(error);
      else kept.push(send);
    }
    this.#sends = kept;
  }

  /** @param {SignalingError} error */
  rejectAll(error) {
    this.pause();
    for (const send of this.#sends.splice(0)) send.reject(error);
  }

  /**
   * Settles or retries the send of an `ack`, or of an `error` with an id.
   *
   * @param {Ack | ErrorFrame} answer
   */
  answer(answer) {
    const index = this.#sends.findIndex((send) => send.state === 'sent' && send.id === answer.id);
    const send = this.#sends[index];
    if (!send) return;
    if (answer.type === 'error' && isRetriedByQueue(answer.code)) {
      this.#onRefused(send, answer);
    } else {
      this.#sends.splice(index, 1);
      if (answer.type === 'ack') send.resolve(answer);
      else send.reject(toError(answer));
    }
    if (this.#retryAt && Date.now() >= this.#retryAt) this.#retryRefused();
    else this.#sendReady();
  }

  /** @param {PendingSend} send @param {ErrorFrame} answer */
  #onRefused(send, answer) {
    send.state = 'refused';
    send.refusal = toError(answer);
    if (answer.code === 'peer_backlogged') send.backloggedAt ??= Date.now();
    const isRateLimit = answer.code === 'rate_limited';
    this.#blocked ||= isRateLimit;
    // The first refusal sets the time; otherwise many refusals would delay the retry for ever. A
    // rate limit applies to the whole connection, so its wait always counts.
    if (this.#retryAt && !isRateLimit) return;
    // The jitter spreads the clients that wait for the same store.
    const waitMs = (answer.retryMs ?? DEFAULT_RETRY_MS) * (1 + this.#random() / 2);
    this.#retryAt = Math.max(this.#retryAt, Date.now() + waitMs);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retryRefused(), this.#retryAt - Date.now());
  }

  /** Sends all refused sends again, when no answer is on its way (see above). */
  #retryRefused() {
    this.#blocked = true;
    if (this.#sends.some((send) => send.state === 'sent')) return;
    this.#endRetry();
    this.#sends = this.#sends.filter((send) => !this.#rejectIfTooLate(send));
    this.#makeReady();
    this.#sendReady();
  }

  #endRetry() {
    this.#retryAt = 0;
    this.#blocked = false;
    clearTimeout(this.#timer);
  }

  /**
   * Makes all sends ready, in the order of transmission. A refusal is final for its id, so the send
   * gets a new id. After `unavailable` the outcome is unknown, so the server must get the same id
   * again before any other.
   */
  #makeReady() {
    for (const send of this.#sends) {
      if (send.state === 'refused' && send.refusal?.code !== 'unavailable') send.id = undefined;
      send.state = 'ready';
    }
    this.#sends.sort((one, other) => (one.id ?? Infinity) - (other.id ?? Infinity) || 0);
    return [...this.#sends];
  }

  /** @param {PendingSend} send */
  #rejectIfTooLate(send) {
    const { backloggedAt, refusal } = send;
    if (backloggedAt === undefined || refusal?.code !== 'peer_backlogged') return false;
    if (Date.now() - backloggedAt < this.#giveUpMs) return false;
    send.reject(refusal);
    return true;
  }

  #sendReady() {
    if (!this.#open || this.#blocked) return;
    const blocked = new BlockedTargets();
    let inFlight = this.#sends.filter((send) => send.state === 'sent').length;
    for (const send of [...this.#sends]) {
      if (inFlight >= MAX_IN_FLIGHT) return;
      if (send.state === 'sent') continue;
      if (send.state === 'refused' || blocked.overlap(send.frame)) blocked.add(send.frame);
      else if (this.#sendNow(send)) inFlight += 1;
    }
  }

  /** @param {PendingSend} send */
  #sendNow(send) {
    send.id ??= ++this.#lastId;
    const text = send.encode();
    if (text.length * 3 > this.#frameBytes && encoder.encode(text).length > this.#frameBytes) {
      this.#sends.splice(this.#sends.indexOf(send), 1);
      send.reject(new SignalingError('too_large', `The message is larger than ${this.#frameBytes} bytes.`));
      return false;
    }
    send.state = 'sent';
    this.#transmit(text);
    return true;
  }
}

/** The targets of blocked sends. A send without `to` has all peers as its targets. */
class BlockedTargets {
  /** @type {Set<string | undefined>} */
  #peers = new Set();

  /** @param {ClientFrame} frame */
  add({ to }) {
    this.#peers.add(to);
  }

  /** @param {ClientFrame} frame */
  overlap({ to }) {
    return this.#peers.has(to) || this.#peers.has(undefined) || (to === undefined && this.#peers.size > 0);
  }
}

/**
 * @param {PendingSend} send
 * @param {(peerId: string) => boolean} isPresent
 */
function errorAfterRejoin({ frame, id }, isPresent) {
  if (frame.to !== undefined && !isPresent(frame.to)) {
    return new SignalingError('no_such_peer', 'The peer is no longer in the room.', { field: 'to' });
  }
  if (id === undefined && (frame.type === 'message' || frame.type === 'update')) return undefined;
  return new SignalingError('session_gone', 'The connection was lost, and this client is a new peer now.');
}

/** @param {ErrorFrame} frame */
function toError({ code, message, field, retryMs }) {
  return new SignalingError(code, message, { field, retryMs });
}
