/**
 * The queue of pending messages: the outgoing messages, of any frame type, to which the server has
 * not given a final reply. The queue gives each message an id and keeps it over any number of
 * connections. It sends a message again after a temporary refusal (docs/PROTOCOL.md, section 3.2).
 * Owns ids, order and bounds. Does not know sockets.
 *
 * How the queue retries, by an example. Messages 5, 6 and 7 go to Bob, Carol and Dave:
 * 1. The store becomes unavailable, and the server refuses 5 with `unavailable`. The queue now holds
 *    back new messages to Bob. It still sends 6 and 7, because the server may deliver messages to
 *    other targets directly.
 * 2. The store is available again before 6 and 7 reach the server. The server now refuses every id
 *    after 5, also for other targets, until 5 arrives again. So it refuses 6 and 7. These two
 *    refusals are still on their way to the queue.
 * 3. The retry time has come. The queue must send the refused messages again in the order of their
 *    ids, and it does not know yet that 6 and 7 are among them. So it sends nothing until no message
 *    is in flight (sent and without a reply). Then it sends 5, 6 and 7, lowest id first, and after
 *    them the messages that it held back.
 *
 * Why step 3 waits: the queue could otherwise send 5, and then a new message 8 before 6 and 7. As
 * soon as 5 has arrived the server may accept 8, and then every lower id counts as accepted. It would
 * acknowledge 6 and 7 as duplicates, and they would be lost.
 *
 * "The store" is Redis, where the server keeps the mailboxes. Without it a server delivers a message
 * directly if the target is connected to the same process.
 */
import { SignalingError, isRetriedByQueue, toError } from './signaling-error.js';

/**
 * @typedef {import('./messages.js').Ack} Ack
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {import('./messages.js').RefusedId} RefusedId
 * @typedef {{ type: string, to?: string, re?: number | PendingMessage,
 *   [member: string]: unknown }} ClientFrame a frame to send; `re` is the offer to which an answer, a
 *   rollback or a candidate belongs: its id, or the pending message if this client sent the offer
 */

/**
 * How many messages may be in flight (sent and without a reply). No more messages than these can be
 * refused before the queue receives the first refusal and reacts to it. The server names at most as
 * many refused messages in `resumed`.
 */
const MAX_IN_FLIGHT = 64;

/** How long a message to a full mailbox is retried before it is rejected. */
const GIVE_UP_MS = 15_000;

/** The wait after a refusal without `retryMs`. */
const DEFAULT_RETRY_MS = 500;

const encoder = new TextEncoder();

/** One outgoing message in the queue. */
export class PendingMessage {
  /**
   * The message id, set when the message is sent. It is removed again when a refusal is final for
   * the id, so that the retry uses a new id.
   *
   * @type {number | undefined}
   */
  id;
  /** Whether the message is in flight on the current connection. */
  isSent = false;
  /** The temporary refusal, while the message waits for its retry. @type {SignalingError | undefined} */
  refusal;
  /** When the mailbox of a target was first full. @type {number | undefined} */
  backloggedAt;

  /** @param {ClientFrame} frame */
  constructor(frame) {
    this.frame = frame;
    /** Settles with the final reply of the server. @type {Promise<Ack>} */
    this.done = new Promise((resolve, reject) => {
      /** @type {(ack: Ack) => void} */
      this.resolve = resolve;
      /** @type {(error: SignalingError) => void} */
      this.reject = reject;
    });
  }

  /**
   * Returns the frame as text. Messages are sent in order, so an offer of this client to which the
   * frame belongs has an id by now.
   */
  encode() {
    const { id, frame } = this;
    return JSON.stringify({ ...frame, id, re: /** @type {PendingMessage} */ (frame.re)?.id ?? frame.re });
  }
}

/**
 * On each new connection the caller calls, in this order:
 * 1. {@link SendQueue.resume} if the peer is the same, or {@link SendQueue.rejoin} if the client
 *    joined as a new peer. Both decide which pending messages stay; neither sends a message.
 * 2. {@link SendQueue.open}, which starts to send.
 *
 * {@link SendQueue.pause} ends it when the connection is lost.
 */
export class SendQueue {
  /**
   * The messages without a final reply, in the order in which ready messages are sent. A new
   * message goes to the end; {@link #makeReady} sorts by id. The order matters between messages to
   * the same target.
   *
   * @type {PendingMessage[]}
   */
  #pending = [];
  /** The highest id that this queue has used, or that the server has accepted from this peer. */
  #lastUsedId = 0;
  #open = false;
  /** The limit for one frame; without a limit until the first {@link open}. */
  #frameBytes = Infinity;
  /** When refused messages are sent again; 0 without a refusal. */
  #retryAt = 0;
  /**
   * Whether nothing may be sent until the retry. The reason is `rate_limited`, or the retry waits
   * until no message is in flight.
   */
  #holdsAll = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #transmit;
  #capacity;

  /**
   * @param {(text: string) => void} transmit
   * @param {number} [capacity] the maximum number of pending messages
   */
  constructor(transmit, capacity = 256) {
    this.#transmit = transmit;
    this.#capacity = capacity;
  }

  /** How many messages are pending, both in flight and not. */
  get size() {
    return this.#pending.length;
  }

  /**
   * Sends a frame as soon as possible. If the queue is full, the message is rejected.
   *
   * @param {ClientFrame} frame
   */
  push(frame) {
    const message = new PendingMessage(frame);
    if (this.#pending.length >= this.#capacity) {
      message.reject(new SignalingError('queue_full', 'Too many messages are pending.'));
      return message;
    }
    this.#pending.push(message);
    this.#sendReady();
    return message;
  }

  /**
   * Starts to send on the current connection.
   *
   * @param {number} frameBytes the limit for one frame; the server closes after a longer one
   */
  open(frameBytes) {
    this.#open = true;
    this.#frameBytes = frameBytes;
    this.#sendReady();
  }

  /** The connection is lost. All messages stay pending. */
  pause() {
    this.#open = false;
    this.#clearRetryTimer();
  }

  /**
   * The server sent `resumed` for this peer. The refused ids get their replies, and the other messages
   * up to `lastAcceptedId` are resolved. The next {@link open} sends the remaining messages again,
   * before any new message. They keep their ids, except messages that the server has refused: such a
   * refusal is final for the id, unless it was `unavailable`.
   *
   * @param {number} lastAcceptedId the `lastId` of `resumed`
   * @param {RefusedId[]} [refused] the `refused` of `resumed`
   */
  resume(lastAcceptedId, refused = []) {
    // The queue is still open if the server sent `resumed` because it made a new mailbox for the peer.
    this.pause();
    for (const one of refused) this.onReply(/** @type {ErrorFrame} */ ({ type: 'error', ...one }));
    this.pause();
    this.#lastUsedId = Math.max(this.#lastUsedId, lastAcceptedId);
    this.#makeReady();
    for (const { id } of this.#pending) {
      if (id && lastAcceptedId >= id) this.onReply({ type: 'ack', id, duplicate: true });
    }
  }

  /**
   * The client has joined as a new peer, or waits in the lobby as one: at its first join, or because
   * it could not resume its peer. A frame `message` or `update` stays in the queue if it has no id and
   * its target is in the room. Other messages are rejected, see {@link errorAfterRejoin}.
   *
   * @param {(peerId: string) => boolean} isPresent whether this peer is in the room now
   */
  rejoin(isPresent) {
    this.#removeIf((message) => {
      const error = errorAfterRejoin(message, isPresent);
      if (error) message.reject(error);
      return Boolean(error);
    });
  }

  /**
   * Rejects all messages and stops sending, for example because this client has left the room.
   *
   * @param {SignalingError} error
   */
  rejectAll(error) {
    this.pause();
    for (const message of this.#pending.splice(0)) message.reject(error);
  }

  /**
   * Settles the message that a reply belongs to, or retries it later after a temporary refusal.
   *
   * @param {Ack | ErrorFrame} reply an `ack`, or an `error` with an id
   */
  onReply(reply) {
    const message = this.#pending.find(({ id }) => id === reply.id);
    if (!message) return;
    if (reply.type === 'error' && isRetriedByQueue(reply.code)) {
      this.#onRefused(message, reply);
    } else {
      this.#removeIf((one) => one === message);
      if (reply.type === 'error') message.reject(toError(reply));
      else message.resolve(reply);
    }
    if (this.#retryAt && performance.now() >= this.#retryAt) this.#retryRefused();
    else this.#sendReady();
  }

  /** @param {PendingMessage} message @param {ErrorFrame} refusal */
  #onRefused(message, refusal) {
    message.isSent = false;
    message.refusal = toError(refusal);
    if (refusal.code === 'peer_backlogged') message.backloggedAt ??= performance.now();
    const isRateLimit = refusal.code === 'rate_limited';
    this.#holdsAll ||= isRateLimit;
    // The first refusal sets the time. If each later one moved it, the retry might never come. A rate
    // limit applies to the whole connection, so its wait always counts.
    if (this.#retryAt && !isRateLimit) return;
    // The jitter spreads the clients that wait for the same store.
    const waitMs = (refusal.retryMs ?? DEFAULT_RETRY_MS) * (1 + Math.random() / 2);
    this.#retryAt = Math.max(this.#retryAt, performance.now() + waitMs);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retryRefused(), this.#retryAt - performance.now());
  }

  /**
   * Sends all refused messages again, once no message is in flight (step 3 of the example at the
   * top of this file). Until then, each reply calls this method again.
   */
  #retryRefused() {
    this.#holdsAll = true;
    if (this.#pending.some(({ isSent }) => isSent)) return;
    this.#clearRetryTimer();
    // A message whose target had a full mailbox for too long is rejected.
    this.#removeIf(({ backloggedAt = Infinity, refusal, reject }) => {
      const isTooLate = refusal?.code === 'peer_backlogged' && performance.now() - backloggedAt >= GIVE_UP_MS;
      if (isTooLate) reject(refusal);
      return isTooLate;
    });
    this.#makeReady();
    this.#sendReady();
  }

  /** Ends the wait for the retry, and releases the messages that it held back. */
  #clearRetryTimer() {
    this.#retryAt = 0;
    this.#holdsAll = false;
    clearTimeout(this.#timer);
  }

  /**
   * Makes all messages ready, and sorts them by id. A refusal other than `unavailable` is final for
   * its id, so the message will get a new id. After `unavailable` the outcome is unknown. So the
   * message keeps its id, and the server must get this id before any new one.
   */
  #makeReady() {
    for (const message of this.#pending) {
      if (message.refusal && message.refusal.code !== 'unavailable') message.id = undefined;
      message.refusal = undefined;
      message.isSent = false;
    }
    // A message without an id comes last. Two such messages keep their order: their difference is
    // NaN, which `|| 0` makes equal.
    this.#pending.sort((one, other) => (one.id ?? Infinity) - (other.id ?? Infinity) || 0);
  }

  /** @param {(message: PendingMessage) => boolean} isDone */
  #removeIf(isDone) {
    this.#pending = this.#pending.filter((message) => !isDone(message));
  }

  #sendReady() {
    if (!this.#open || this.#holdsAll) return;
    /** The targets of the messages that are held back; undefined for all peers. @type {Set<unknown>} */
    const held = new Set();
    let inFlight = this.#pending.filter(({ isSent }) => isSent).length;
    for (const message of this.#pending) {
      if (inFlight >= MAX_IN_FLIGHT) return;
      if (message.isSent) continue;
      const { to } = message.frame;
      const isHeld = message.refusal || held.has(to) || held.has(undefined) || (to === undefined && held.size);
      if (isHeld) held.add(to);
      else if (this.#sendNow(message)) inFlight += 1;
    }
  }

  /**
   * Returns whether the message was sent. A message that is too large is rejected.
   *
   * @param {PendingMessage} message
   */
  #sendNow(message) {
    message.id ??= ++this.#lastUsedId;
    const text = message.encode();
    // One UTF-16 code unit has at most 3 bytes in UTF-8, so most texts need no exact count.
    if (text.length * 3 > this.#frameBytes && encoder.encode(text).length > this.#frameBytes) {
      this.#removeIf((one) => one === message);
      message.reject(new SignalingError('too_large', `The message is larger than ${this.#frameBytes} bytes.`));
      return false;
    }
    message.isSent = true;
    this.#transmit(text);
    return true;
  }
}

/**
 * Returns why a new peer cannot send this message, or undefined to keep it.
 *
 * - A message with an id was sent by the old peer and may have been delivered. The ids of the new
 *   peer begin again, so the server would not notice a duplicate.
 * - Other frames than `message` and `update` belong to the old peer, such as an offer, an answer or
 *   a candidate.
 *
 * @param {PendingMessage} message
 * @param {(peerId: string) => boolean} isPresent
 */
function errorAfterRejoin({ frame, id }, isPresent) {
  if (frame.to !== undefined && !isPresent(frame.to)) {
    return new SignalingError('no_such_peer', 'The peer is not in the room.', { field: 'to' });
  }
  if (id === undefined && (frame.type === 'message' || frame.type === 'update')) return undefined;
  return new SignalingError('session_gone', 'The message may be lost.');
}
