/**
 * A peer's place in a room: connects, comes back, and turns frames into typed events and answered sends. Owns the order in which
 * the parts act; must not know WebRTC (see peer.js) or the page (see room.js).
 */
import { SignalingError } from './codes.js';
import { Dialer } from './dialer.js';
import { Emitter } from './events.js';
import { Inbox } from './inbox.js';
import { parseFrame } from './messages.js';
import { SendQueue } from './queue.js';
import { Roster } from './roster.js';

/**
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 *
 * @typedef {'idle' | 'connecting' | 'open' | 'waiting' | 'closed'} ClientState
 *
 * @typedef {object} ClientOptions
 * @property {() => Promise<string> | string} getToken asked before every attempt to join, so a token may be short-lived; coming back
 *   needs none
 * @property {string | URL} [url] `https://host[/prefix]` of the server; the page's own origin where absent
 * @property {typeof WebSocket} [WebSocket] another implementation, for Node before 22
 * @property {typeof fetch} [fetch]
 * @property {number} [queueCapacity] most sends that wait for an answer
 * @property {() => number} [random] the source of jitter
 * @property {import('./handle.js').HandlePlace | null} [session] where the handle survives a reload, so that the page after it takes this
 *   peer's place; never a token. Nowhere where absent
 *
 * @typedef {object} ClientEvents
 * @property {Joined} joined a new peer: the first time, and when the old one could not be had back
 * @property {Resumed} resumed the same peer; `recovered: false`: look at {@link SignalingClient.peers} and negotiate anew
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

/** @extends {Emitter<ClientEvents>} */
export class SignalingClient extends Emitter {
  /** @type {ClientState} */
  #state = 'idle';
  /** @type {Joined | Resumed | null} */
  #self = null;
  #roster = new Roster();
  /** @type {{ promise: Promise<Joined>, resolve: (joined: Joined) => void, reject: (error: unknown) => void } | null} */
  #first = null;
  #queue;
  #dialer;
  #inbox = new Inbox((seq) => this.#dialer.send(JSON.stringify({ type: 'received', seq })));

  /** @param {ClientOptions} options */
  constructor(options) {
    super();
    this.#dialer = new Dialer(options, {
      since: () => this.#inbox.seq,
      onText: (text) => this.#onText(text),
      onDown: () => this.#onDown(),
      onConnecting: () => this.#setState('connecting'),
      onWaiting: (error, retryInMs) => this.#setState('waiting', { error, retryInMs }),
      onStopped: (error) => this.#onStopped(error),
    });
    this.#queue = new SendQueue((text) => this.#dialer.send(text), { capacity: options.queueCapacity, random: options.random });
  }

  get state() {
    return this.#state;
  }

  /** The latest `joined` or `resumed`, or null before the first one. */
  get self() {
    return this.#self;
  }

  /** This peer's id: the same as long as the server lets it resume, else a new one. */
  get peerId() {
    return this.#self?.peerId ?? null;
  }

  /** The other peers of the room, by peerId; kept while the connection is away. @returns {ReadonlyMap<string, PeerEntry>} */
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
    this.#dialer.start();
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
    this.#dialer.send('{"type":"leave"}');
    this.#dialer.stop(new SignalingError('left', 'This client has left the room.', { closeCode: 1000 }));
  }

  /** @param {unknown} text */
  #onText(text) {
    const frame = this.#read(text);
    if (!frame) return;
    const verdict = this.#inbox.take(frame, String(text).length);
    if (verdict === 'gap') this.#dialer.drop('seq_gap');
    if (verdict === 'deliver') this.#handle(/** @type {ServerFrame} */ (frame));
  }

  /** @param {unknown} text */
  #read(text) {
    try {
      return parseFrame(text);
    } catch (error) {
      const { cause } = /** @type {SignalingError} */ (error);
      this.emit('error', /** @type {SignalingError} */ (error));
      // An entry that cannot be read still counts: left out, it would be a gap, and a resumed mailbox would bring it again for ever.
      const seq = /** @type {{ seq?: unknown } | undefined} */ (cause)?.seq;
      return typeof seq === 'number' ? { type: 'unreadable', seq } : null;
    }
  }

  /** @param {ServerFrame} frame */
  #handle(frame) {
    switch (frame.type) {
      case 'joined':
        return this.#joined(frame);
      case 'resumed':
        return this.#resumed(frame);
      case 'ack':
        return this.#queue.answer(frame);
      case 'error':
        return this.#onError(frame);
      case 'goaway':
        this.#dialer.goaway(frame.reconnectIn);
        return this.emit('goaway', frame);
      case 'pong':
        return undefined;
      case 'peer-joined':
      case 'peer-updated':
        this.#roster.apply(frame);
        return this.emit(frame.type, /** @type {PeerEntry} */ (this.peers.get(frame.peerId)));
      default:
        this.#roster.apply(frame);
        return this.#isKnown(frame) ? this.emit(/** @type {any} */ (frame.type), frame) : undefined;
    }
  }

  /** A type of a later protocol version must not reach listeners as one of ours (`state`, say). @param {{ type: string }} frame */
  #isKnown({ type }) {
    return /^(offer|answer|pranswer|rollback|candidate|message|notice|peer-(detached|attached|left))$/.test(type);
  }

  /** A new peer with nothing owed to the one before it. @param {Joined} joined */
  #joined(joined) {
    this.#dialer.welcomed(joined);
    this.#self = joined;
    this.#roster.reset(joined.peers);
    this.#inbox.start(joined.seq, joined.limits.backlog);
    this.#queue.rejoin((peerId) => this.peers.has(peerId));
    this.#setState('open');
    this.emit('joined', joined);
    this.#queue.open(joined.limits.frameBytes);
    this.#first?.resolve(joined);
  }

  /** The same peer on a new connection, or on this one with another mailbox. @param {Resumed} resumed */
  #resumed(resumed) {
    const { recovered, seq, lastId, limits, peers } = resumed;
    this.#dialer.welcomed(resumed);
    this.#self = resumed;
    if (recovered) {
      // The roster is that of `since`, and the entries that follow bring it to now.
      this.#inbox.resume(limits.backlog);
    } else {
      const known = new Set([...this.peers.keys(), ...peers.map(({ peerId }) => peerId)]);
      this.#inbox.restart(seq, limits.backlog, (peerId) => known.has(peerId));
      this.#roster.reset(peers);
    }
    this.#queue.resume(lastId);
    if (this.#state !== 'open') this.#setState('open');
    // The first frame makes the handle before this one void: a request with it may still lie somewhere on the way.
    this.#inbox.tell();
    this.emit('resumed', resumed);
    this.#queue.open(limits.frameBytes);
  }

  /** @param {ErrorFrame} frame */
  #onError(frame) {
    if (frame.id !== undefined) return this.#queue.answer(frame);
    this.#dialer.said(frame);
    const { code, message, field, retryMs } = frame;
    return this.emit('error', new SignalingError(code, message, { field, retryMs }));
  }

  #onDown() {
    this.#queue.pause();
    this.#inbox.stop();
  }

  /** @param {SignalingError} error */
  #onStopped(error) {
    const first = this.#first;
    this.#first = null;
    this.#setState('closed', { error });
    this.#queue.rejectAll(error);
    first?.reject(error);
  }

  /** @param {ClientState} state @param {{ error?: SignalingError, retryInMs?: number }} [more] */
  #setState(state, more = {}) {
    this.#state = state;
    this.emit('state', { state, ...more });
  }
}
