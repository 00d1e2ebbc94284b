/**
 * A peer's place in a room: connects, comes back, and turns frames into typed events and answered sends. Owns the order in which
 * the parts act; must not know WebRTC (see peer.js) or the page (see room.js).
 */
import { Backoff } from './backoff.js';
import { SignalingError, isRetryable, readClose } from './codes.js';
import { Emitter } from './events.js';
import { signalAddress, whyRefused } from './http.js';
import { Inbox } from './inbox.js';
import { Keepalive } from './keepalive.js';
import { Link } from './link.js';
import { parseFrame } from './messages.js';
import { SendQueue } from './queue.js';
import { Roster } from './roster.js';

/**
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {import('./link.js').Closing} Closing
 *
 * @typedef {'idle' | 'connecting' | 'open' | 'waiting' | 'closed'} ClientState
 *
 * @typedef {object} ClientOptions
 * @property {() => Promise<string> | string} getToken asked before every attempt to connect, so a token may be short-lived
 * @property {string | URL} [url] `https://host[/prefix]` of the server; the page's own origin where absent
 * @property {typeof WebSocket} [WebSocket] another implementation, for Node before 22
 * @property {typeof fetch} [fetch]
 * @property {number} [queueCapacity] most sends that wait for an answer
 * @property {() => number} [random] the source of jitter
 *
 * @typedef {object} ClientEvents
 * @property {Joined} joined
 * @property {PeerEntry} peer-joined
 * @property {PeerEntry} peer-updated
 * @property {import('./messages.js').PeerLink} peer-detached
 * @property {import('./messages.js').PeerLink} peer-attached
 * @property {import('./messages.js').PeerLeft} peer-left
 * @property {import('./messages.js').Message} message
 * @property {import('./messages.js').Description} offer
 * @property {import('./messages.js').Description} answer
 * @property {import('./messages.js').Description} pranswer
 * @property {import('./messages.js').Rollback} rollback
 * @property {import('./messages.js').Candidate} candidate
 * @property {import('./messages.js').Notice} notice
 * @property {import('./messages.js').Goaway} goaway
 * @property {SignalingError} error what no send and no state tells
 * @property {{ state: ClientState, error?: SignalingError, retryInMs?: number }} state
 */

/** A connection that held so long was a good one; its loss starts the backoff anew. */
const HELD_MS = 5_000;

/** Closing code → what a retry of the token may cure. */
const ABOUT_THE_TOKEN = new Set([401, 403]);

/** @extends {Emitter<ClientEvents>} */
export class SignalingClient extends Emitter {
  /** @type {ClientState} */
  #state = 'idle';
  /** @type {Joined | null} */
  #self = null;
  #roster = new Roster();
  /** @type {Link | null} */
  #link = null;
  /** Grows with every attempt and every end: what an older one still awaits is void. */
  #epoch = 0;
  /** @type {{ promise: Promise<Joined>, resolve: (joined: Joined) => void, reject: (error: unknown) => void } | null} */
  #first = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #goawayTimer;
  #comeBackAt = 0;
  #joinedAt = 0;
  #tokenRefused = false;
  /** The last `error` without an id: the words for the close that follows it. @type {ErrorFrame | null} */
  #lastWords = null;
  #token = '';
  #options;
  #backoff;
  #queue;
  #inbox = new Inbox((seq) => this.#link?.send(JSON.stringify({ type: 'received', seq })));
  #keepalive = new Keepalive({
    ping: () => this.#link?.send('{"type":"ping"}'),
    lost: () => this.#link?.drop('no_pong'),
  });
  #onOnline = () => this.#networkIsBack();

  /** @param {ClientOptions} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#backoff = new Backoff({ random: options.random });
    this.#queue = new SendQueue((text) => this.#link?.send(text), { capacity: options.queueCapacity, random: options.random });
  }

  get state() {
    return this.#state;
  }

  /** The latest `joined`, or null before the first one. */
  get self() {
    return this.#self;
  }

  /** This peer's id; a new one after every reconnect. */
  get peerId() {
    return this.#self?.peerId ?? null;
  }

  /** The other peers of the room, by peerId. @returns {ReadonlyMap<string, PeerEntry>} */
  get peers() {
    return this.#roster.peers;
  }

  /**
   * Connects, and from then on keeps connected until {@link leave} or a final refusal.
   *
   * @returns {Promise<Joined>} rejected with a {@link SignalingError} if no attempt may succeed
   */
  connect() {
    if (this.#first) return this.#first.promise;
    /** @type {any} */
    const first = {};
    first.promise = new Promise((resolve, reject) => Object.assign(first, { resolve, reject }));
    this.#first = first;
    globalThis.addEventListener?.('online', this.#onOnline);
    void this.#attempt();
    return first.promise;
  }

  /**
   * Sends an application message to one peer, or to every other peer of the room.
   *
   * @param {unknown} data any JSON
   * @param {string} [to] a peerId
   */
  message(data, to) {
    return this.send({ type: 'message', to, data });
  }

  /**
   * Changes this peer's own public record; what is absent stays.
   *
   * @param {{ name?: string, metadata?: Record<string, unknown> }} change
   */
  update(change) {
    return this.send({ type: 'update', ...change });
  }

  /**
   * Sends a frame with the next id.
   *
   * @param {import('./queue.js').ClientFrame} frame
   * @returns {Promise<import('./messages.js').Ack>} rejected with a {@link SignalingError}
   */
  send(frame) {
    return this.post(frame).done;
  }

  /**
   * As {@link send}, for a caller that names the send later: an answer or candidate may carry it as `re`.
   *
   * @param {import('./queue.js').ClientFrame} frame
   */
  post(frame) {
    const sending = this.#queue.push(frame);
    if (this.#state === 'closed') this.#queue.rejectAll(new SignalingError('closed', 'This client has left the room.'));
    return sending;
  }

  /** Leaves the room for good. Synchronous, so that a page may call it on `pagehide`. */
  leave() {
    this.#link?.send('{"type":"leave"}');
    this.#stop(new SignalingError('left', 'This client has left the room.', { closeCode: 1000 }));
  }

  async #attempt() {
    const epoch = this.#begin();
    this.#setState('connecting');
    try {
      const token = await this.#options.getToken();
      if (epoch === this.#epoch) this.#openLink(token);
    } catch (cause) {
      if (epoch === this.#epoch) this.#failedBefore(cause);
    }
  }

  /** @param {unknown} cause of having no token, or none that fits into a request */
  #failedBefore(cause) {
    const error = cause instanceof SignalingError ? cause : new SignalingError('no_token', 'There is no token to join with.', { cause });
    if (error.retryable || !(cause instanceof SignalingError || cause instanceof SyntaxError)) this.#wait(error);
    else this.#stop(error);
  }

  /** @param {string} token */
  #openLink(token) {
    this.#token = token;
    this.#lastWords = null;
    this.#link = new Link({
      address: signalAddress(this.#options.url),
      token,
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
      onText: (text) => this.#onText(text),
      onClose: (closing) => void this.#onClose(closing),
    });
  }

  /** @param {unknown} text */
  #onText(text) {
    this.#keepalive.heard();
    let frame;
    try {
      frame = parseFrame(text);
    } catch (error) {
      // Not the end: if it was an entry of the mailbox, the next one shows the gap.
      return this.emit('error', /** @type {SignalingError} */ (error));
    }
    const verdict = this.#inbox.take(frame, String(text).length);
    if (verdict === 'gap') this.#link?.drop('seq_gap');
    if (verdict === 'deliver') this.#handle(/** @type {ServerFrame} */ (frame));
  }

  /** @param {ServerFrame} frame */
  #handle(frame) {
    switch (frame.type) {
      case 'joined':
        return this.#joined(frame);
      case 'ack':
        return this.#queue.answer(frame);
      case 'error':
        return this.#onError(frame);
      case 'goaway':
        return this.#onGoaway(frame);
      case 'pong':
        return undefined;
      case 'peer-joined':
      case 'peer-updated':
        this.#roster.apply(frame);
        return this.emit(frame.type, /** @type {PeerEntry} */ (this.peers.get(frame.peerId)));
      default:
        this.#roster.apply(frame);
        return this.#isKnown(frame) ? this.emit(frame.type, /** @type {any} */ (frame)) : undefined;
    }
  }

  /** A type of a later protocol version must not reach listeners as one of ours (`state`, say). @param {{ type: string }} frame */
  #isKnown({ type }) {
    return /^(offer|answer|pranswer|rollback|candidate|message|notice|peer-(detached|attached|left))$/.test(type);
  }

  /**
   * A new peer with nothing owed to the one before it. (A server that lets a peer come back would say `resumed` here instead, and the
   * queue would go on from its `lastId`.)
   *
   * @param {Joined} joined
   */
  #joined(joined) {
    this.#link?.joined();
    this.#self = joined;
    this.#joinedAt = Date.now();
    this.#comeBackAt = 0;
    this.#tokenRefused = false;
    this.#roster.reset(joined.peers);
    this.#inbox.start(joined.seq, joined.limits.backlog);
    this.#keepalive.start(joined.pingInterval);
    this.#queue.rejoin((peerId) => this.peers.has(peerId));
    this.#setState('open');
    this.emit('joined', joined);
    this.#queue.open(joined.limits.frameBytes);
    this.#first?.resolve(joined);
  }

  /** @param {ErrorFrame} frame */
  #onError(frame) {
    if (frame.id !== undefined) return this.#queue.answer(frame);
    this.#lastWords = frame;
    const { code, message, field, retryMs } = frame;
    return this.emit('error', new SignalingError(code, message, { field, retryMs }));
  }

  /** @param {import('./messages.js').Goaway} frame */
  #onGoaway(frame) {
    this.#comeBackAt = Date.now() + frame.reconnectIn;
    this.emit('goaway', frame);
    clearTimeout(this.#goawayTimer);
    this.#goawayTimer = setTimeout(() => this.#link?.drop('going_away'), frame.reconnectIn);
  }

  /** @param {Closing} closing */
  async #onClose({ code, reason, opened }) {
    const epoch = this.#begin();
    const { code: name, retryMs } = readClose(code, reason);
    const words = this.#lastWords?.code === name ? this.#lastWords.message : undefined;
    const error = new SignalingError(name, words, { closeCode: code, retryMs });
    if (opened) return isRetryable(code) ? this.#wait(error) : this.#stop(error);
    const refusal = await whyRefused({ url: this.#options.url, token: this.#token, fetch: this.#options.fetch });
    if (epoch === this.#epoch) this.#notAdmitted(refusal ?? error);
  }

  /** The upgrade failed. @param {SignalingError} error */
  #notAdmitted(error) {
    const { status } = error;
    if (status !== undefined && ABOUT_THE_TOKEN.has(status) && !this.#tokenRefused) {
      this.#tokenRefused = true;
      return void this.#attempt();
    }
    // A 404 is a proxy without its server behind it; the others will be the same next time.
    const final = status !== undefined && !error.retryable && status !== 404;
    return final ? this.#stop(error) : this.#wait(error);
  }

  /** Ends whatever attempt or connection there is, and returns the number of what begins. */
  #begin() {
    clearTimeout(this.#timer);
    clearTimeout(this.#goawayTimer);
    this.#queue.pause();
    this.#inbox.stop();
    this.#keepalive.stop();
    this.#link?.end();
    this.#link = null;
    this.#epoch += 1;
    return this.#epoch;
  }

  /** @param {SignalingError} error */
  #wait(error) {
    if (this.#joinedAt && Date.now() - this.#joinedAt >= HELD_MS) this.#backoff.reset();
    this.#joinedAt = 0;
    const retryInMs = this.#backoff.next(Math.max(error.retryMs ?? 0, this.#comeBackAt - Date.now(), 0));
    this.#timer = setTimeout(() => void this.#attempt(), retryInMs);
    this.#setState('waiting', { error, retryInMs });
  }

  /** @param {SignalingError} error */
  #stop(error) {
    if (this.#state === 'closed' || this.#state === 'idle') return;
    this.#begin();
    globalThis.removeEventListener?.('online', this.#onOnline);
    const first = this.#first;
    this.#first = null;
    this.#setState('closed', { error });
    this.#queue.rejectAll(error);
    first?.reject(error);
  }

  #networkIsBack() {
    if (this.#state === 'waiting' && Date.now() >= this.#comeBackAt) void this.#attempt();
    else if (this.#state === 'open') this.#keepalive.probe();
  }

  /** @param {ClientState} state @param {{ error?: SignalingError, retryInMs?: number }} [more] */
  #setState(state, more = {}) {
    this.#state = state;
    this.emit('state', { state, ...more });
  }
}
