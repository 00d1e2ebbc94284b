/**
 * The one ordered pipeline of sends: numbers them, keeps each until it is answered, over any number of connections, and goes back to the
 * first refused one when the server says "not now" (docs/PROTOCOL.md, section 3.2). Owns ids, order and bounds; must not know sockets.
 *
 * A refused send holds up what comes after it to the same targets, and nothing else: while the store is away, peers of one node go on. When
 * its time has come everything stops until the answers on their way are in, and then all that was refused goes out again, lowest id
 * first. The stop matters. A server whose store is back refuses every id after the first refused one until that one has been heard, and
 * forgets about the refused ones after it: if the first were sent again while later ones still fly, one of those could be refused, the
 * next be accepted, and the refused one would then count as a double and be lost.
 */
import { SignalingError, isSentAgain } from './codes.js';

/**
 * @typedef {import('./messages.js').Ack} Ack
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {{ type: string, to?: string, re?: number | Sending, [member: string]: unknown }} ClientFrame
 */

/** Most sends between transmission and answer: at most so many are refused before the client holds its tongue. */
const WINDOW = 64;

/** The wait where the server names none. */
const DEFAULT_RETRY_MS = 500;

const encoder = new TextEncoder();

/** One send on its way. `id` is its number on the wire, from the first transmission on. */
export class Sending {
  /** @type {number | undefined} */
  id;
  /** `refused`: it waits for the moment of going back. @type {'ready' | 'sent' | 'refused'} */
  state = 'ready';
  /** When it was first refused by a full mailbox. @type {number | undefined} */
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
    /** Settles with the server's answer. @type {Promise<Ack>} */
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  /** The frame as text; an offer named by `re` is ahead of it in the pipeline, so its number is known. */
  encode() {
    const { re } = this.frame;
    return JSON.stringify({ ...this.frame, id: this.id, re: re instanceof Sending ? re.id : re });
  }
}

export class SendQueue {
  /** Unanswered, in the order in which those for the same targets go out. @type {Sending[]} */
  #entries = [];
  #lastId = 0;
  #open = false;
  #frameBytes = Infinity;
  /** When what was refused is sent again; 0 where nothing was. */
  #backAt = 0;
  /** Nothing goes out: the whole connection was refused, or the answers on their way are waited for. */
  #silent = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #transmit;
  #capacity;
  #giveUpMs;
  #random;

  /**
   * @param {(text: string) => void} transmit
   * @param {{ capacity?: number, giveUpMs?: number, random?: () => number }} [options] `giveUpMs`: how long a full mailbox
   *   is tried before the caller is told
   */
  constructor(transmit, { capacity = 256, giveUpMs = 15_000, random = Math.random } = {}) {
    this.#transmit = transmit;
    this.#capacity = capacity;
    this.#giveUpMs = giveUpMs;
    this.#random = random;
  }

  /** How many sends wait for an answer. */
  get size() {
    return this.#entries.length;
  }

  /**
   * Takes a frame; it goes out now, or as soon as there is a connection.
   *
   * @param {ClientFrame} frame
   */
  push(frame) {
    const sending = new Sending(frame);
    if (this.#entries.length >= this.#capacity) {
      sending.reject(new SignalingError('queue_full', `${this.#capacity} messages wait for an answer; this one was not taken.`));
      return sending;
    }
    this.#entries.push(sending);
    this.#pump();
    return sending;
  }

  /**
   * A connection has joined.
   *
   * @param {number} frameBytes the longest frame it takes; a longer one would cost the connection
   */
  open(frameBytes) {
    this.#open = true;
    this.#frameBytes = frameBytes;
    this.#pump();
  }

  /** The connection is gone; what was not answered stays until the next one tells who this is and who is there. */
  pause() {
    this.#open = false;
    this.#goOn();
  }

  /**
   * The server knows this peer and has accepted its sends up to `lastId`. What it has not goes out again under its old numbers with the
   * next {@link open}.
   *
   * @param {number} lastId
   */
  resume(lastId) {
    this.pause();
    this.#lastId = Math.max(this.#lastId, lastId);
    for (const sending of this.#readyAgain()) {
      if (sending.id === undefined || sending.id > lastId) continue;
      this.#entries.splice(this.#entries.indexOf(sending), 1);
      sending.resolve({ type: 'ack', id: sending.id, duplicate: true });
    }
  }

  /**
   * This client came back as another peer. What was transmitted has no answer any more; what was not may go on if it does not
   * belong to the old identity and its target is there.
   *
   * @param {(peerId: string) => boolean} isPresent
   */
  rejoin(isPresent) {
    const kept = [];
    for (const sending of this.#entries) {
      const error = verdictAfterRejoin(sending, isPresent);
      if (error) sending.reject(error);
      else kept.push(sending);
    }
    this.#entries = kept;
  }

  /** @param {SignalingError} error */
  rejectAll(error) {
    this.pause();
    for (const sending of this.#entries.splice(0)) sending.reject(error);
  }

  /**
   * An `ack`, or an `error` with an id.
   *
   * @param {Ack | ErrorFrame} answer
   */
  answer(answer) {
    const index = this.#entries.findIndex((sending) => sending.state === 'sent' && sending.id === answer.id);
    const sending = this.#entries[index];
    if (!sending) return;
    if (answer.type === 'error' && isSentAgain(answer.code)) {
      this.#refused(sending, answer);
    } else {
      this.#entries.splice(index, 1);
      if (answer.type === 'ack') sending.resolve(answer);
      else sending.reject(toError(answer));
    }
    if (this.#backAt && Date.now() >= this.#backAt) this.#goBack();
    else this.#pump();
  }

  /** @param {Sending} sending @param {ErrorFrame} answer */
  #refused(sending, answer) {
    sending.state = 'refused';
    sending.refusal = toError(answer);
    if (answer.code === 'peer_backlogged') sending.backloggedAt ??= Date.now();
    const ofAll = answer.code === 'rate_limited';
    this.#silent ||= ofAll;
    // The first refusal sets the time, or a stream of them would put it off for ever; what is about the connection is always waited out.
    if (this.#backAt && !ofAll) return;
    // Jitter: the clients of a store that was away must not all knock in the same millisecond.
    const waitMs = (answer.retryMs ?? DEFAULT_RETRY_MS) * (1 + this.#random() / 2);
    this.#backAt = Math.max(this.#backAt, Date.now() + waitMs);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#goBack(), this.#backAt - Date.now());
  }

  /** As soon as nothing is on its way (see above), everything refused goes out again. */
  #goBack() {
    this.#silent = true;
    if (this.#entries.some((sending) => sending.state === 'sent')) return;
    this.#goOn();
    this.#entries = this.#entries.filter((sending) => !this.#gaveUp(sending));
    this.#readyAgain();
    this.#pump();
  }

  #goOn() {
    this.#backAt = 0;
    this.#silent = false;
    clearTimeout(this.#timer);
  }

  /**
   * Makes everything ready to be sent, in the order it has to go out. A refusal is final for its id, so the message gets a new one; only
   * `unavailable` leaves the outcome open, and that id has to be heard again before any other.
   */
  #readyAgain() {
    for (const sending of this.#entries) {
      if (sending.state === 'refused' && sending.refusal?.code !== 'unavailable') sending.id = undefined;
      sending.state = 'ready';
    }
    this.#entries.sort((one, other) => (one.id ?? Infinity) - (other.id ?? Infinity) || 0);
    return [...this.#entries];
  }

  /** @param {Sending} sending */
  #gaveUp(sending) {
    const { backloggedAt, refusal } = sending;
    if (backloggedAt === undefined || refusal?.code !== 'peer_backlogged') return false;
    if (Date.now() - backloggedAt < this.#giveUpMs) return false;
    sending.reject(refusal);
    return true;
  }

  #pump() {
    if (!this.#open || this.#silent) return;
    const held = new Targets();
    let flying = this.#entries.filter((sending) => sending.state === 'sent').length;
    for (const sending of [...this.#entries]) {
      if (flying >= WINDOW) return;
      if (sending.state === 'sent') continue;
      if (sending.state === 'refused' || held.overlap(sending.frame)) held.add(sending.frame);
      else if (this.#sendNow(sending)) flying += 1;
    }
  }

  /** @param {Sending} sending */
  #sendNow(sending) {
    sending.id ??= ++this.#lastId;
    const text = sending.encode();
    if (text.length * 3 > this.#frameBytes && encoder.encode(text).length > this.#frameBytes) {
      this.#entries.splice(this.#entries.indexOf(sending), 1);
      sending.reject(new SignalingError('too_large', `A message is over ${this.#frameBytes} bytes.`));
      return false;
    }
    sending.state = 'sent';
    this.#transmit(text);
    return true;
  }
}

/** Whom the sends that are held up are for. What names no peer concerns every one. */
class Targets {
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
 * @param {Sending} sending
 * @param {(peerId: string) => boolean} isPresent
 */
function verdictAfterRejoin({ frame, id }, isPresent) {
  if (frame.to !== undefined && !isPresent(frame.to)) {
    return new SignalingError('no_such_peer', 'The peer is no longer in the room.', { field: 'to' });
  }
  if (id === undefined && (frame.type === 'message' || frame.type === 'update')) return undefined;
  return new SignalingError('session_gone', 'The connection was lost before the answer came, and this client is a new peer now.');
}

/** @param {ErrorFrame} frame */
function toError({ code, message, field, retryMs }) {
  return new SignalingError(code, message, { field, retryMs });
}
