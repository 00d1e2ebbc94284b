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
import { Renewal } from './renewal.js';
import { Roster } from './roster.js';
import { Standing } from './standing.js';

/**
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').Knocker} Knocker
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 *
 * @typedef {'idle' | 'connecting' | 'open' | 'lobby' | 'waiting' | 'closed'} ClientState `lobby`: connected, and not let in yet; `waiting`:
 *   for the next attempt to connect
 *
 * @typedef {object} ClientOptions
 * @property {() => Promise<string> | string} [getToken] asked before every attempt to join and whenever the token's life ends, so a token may be
 *   short-lived; coming back needs none
 * @property {string} [token] in place of `getToken`: one that the application replaces by {@link SignalingClient.refresh}
 * @property {boolean} [ticket] whether each token is exchanged for a ticket right before it is used to connect
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
 * @property {import('./messages.js').Waiting} lobby this peer waits until somebody lets it in: `joined` follows, or the end
 * @property {import('./messages.js').Knocker} knock somebody waits to be let in
 * @property {import('./messages.js').KnockEnded} knock-ended
 * @property {import('./messages.js').RoomInfo} room-updated
 * @property {{ role: string, permissions: string[], muted?: boolean }} permissions this peer's own have changed
 * @property {{ iceServers: RTCIceServer[], icePolicy: RTCIceTransportPolicy }} ice-servers
 * @property {{ expiresIn: number }} token-expiring in so many milliseconds; with a `getToken` all is being done
 * @property {{ expiresIn: number }} token-refreshed
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

/** Frames that are events as they are. A type of a later protocol version must not reach listeners as one of ours (`state`, say). */
const EVENTS = /^(offer|answer|pranswer|rollback|candidate|message|notice|knock-ended|peer-(detached|attached|left))$/;

/** @extends {Emitter<ClientEvents>} */
export class SignalingClient extends Emitter {
  /** @type {ClientState} */
  #state = 'idle';
  #standing = new Standing();
  #roster = new Roster();
  /** @type {{ promise: Promise<Joined>, resolve: (joined: Joined) => void, reject: (error: unknown) => void } | null} */
  #first = null;
  #queue;
  #dialer;
  #renewal;
  /** The token that the application gave, where it gave one. @type {string | undefined} */
  #token;
  #inbox = new Inbox((seq) => this.#dialer.send(JSON.stringify({ type: 'received', seq })));

  /** @param {ClientOptions} options */
  constructor(options) {
    super();
    this.#token = options.token;
    const getToken = options.getToken ?? (() => this.#token ?? '');
    this.#dialer = new Dialer({ ...options, getToken }, {
      since: () => this.#inbox.seq,
      onText: (text) => this.#onText(text),
      onDown: () => this.#onDown(),
      onConnecting: () => this.#setState('connecting'),
      onWaiting: (error, retryInMs) => this.#setState('waiting', { error, retryInMs }),
      onStopped: (error) => this.#onStopped(error),
    });
    this.#renewal = new Renewal({
      getToken,
      send: (text) => this.#dialer.send(text),
      onFailed: (error) => this.emit('error', error),
      random: options.random,
    });
    this.#queue = new SendQueue((text) => this.#dialer.send(text), { capacity: options.queueCapacity, random: options.random });
  }

  get state() {
    return this.#state;
  }

  /** The latest `joined` or `resumed`, or null before the first one. */
  get self() {
    return this.#standing.self;
  }

  /** This peer's id: the same as long as the server lets it resume, else a new one. */
  get peerId() {
    return this.self?.peerId ?? null;
  }

  /** The other peers of the room, by peerId; kept while the connection is away. @returns {ReadonlyMap<string, PeerEntry>} */
  get peers() {
    return this.#roster.peers;
  }

  /** Who waits to be let in, by peerId; empty for those who may not let anybody in. @returns {ReadonlyMap<string, Knocker>} */
  get waiting() {
    return this.#roster.waiting;
  }

  /** What is known of the room; null before the first `joined`. */
  get room() {
    return this.self?.room ?? null;
  }

  /** Whether this peer has the permission now. @param {string} permission */
  may(permission) {
    return this.#standing.may(permission);
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

  /**
   * Shows the server a newer token of the same user and room, which counts from then on.
   *
   * @param {string} token
   * @returns {Promise<void>} rejected with a {@link SignalingError}, `bad_token` for one
   */
  async refresh(token) {
    if (this.#token !== undefined) this.#token = token;
    if (this.#state !== 'open' && this.#state !== 'lobby') throw new SignalingError('lost', 'There is no connection to show the token on.');
    return this.#renewal.show(token);
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
      case 'waiting':
        return this.#waits(frame);
      case 'token-expiring':
      case 'token-refreshed':
        return this.#onToken(frame);
      case 'ice-servers':
      case 'permissions':
      case 'room-updated':
        return this.#onStanding(frame);
      case 'peer-joined':
      case 'peer-updated':
        this.#roster.apply(frame);
        return this.emit(frame.type, /** @type {PeerEntry} */ (this.peers.get(frame.peerId)));
      case 'knock':
        this.#roster.apply(frame);
        return this.emit('knock', /** @type {Knocker} */ (this.waiting.get(frame.peerId)));
      default:
        this.#roster.apply(frame);
        return EVENTS.test(frame.type) ? this.emit(/** @type {any} */ (frame.type), frame) : undefined;
    }
  }

  /** In the lobby nothing is heard and nothing may be said, but the connection is to be kept. @param {import('./messages.js').Waiting} waiting */
  #waits(waiting) {
    this.#dialer.welcomed(waiting);
    this.#standing.self = null;
    this.#roster.reset([]);
    this.#queue.rejoin(() => false);
    this.#inbox.start(waiting.seq, waiting.limits.backlog);
    this.#setState('lobby');
    this.emit('lobby', waiting);
  }

  /** @param {import('./messages.js').TokenExpiring | import('./messages.js').TokenRefreshed} frame */
  #onToken(frame) {
    if (frame.type === 'token-refreshed') {
      this.#dialer.renewed(frame.resume);
      this.#renewal.refreshed();
      this.emit('token-refreshed', frame);
      this.#onStanding({ type: 'permissions', role: frame.role, permissions: frame.permissions });
    } else {
      // Without anybody to ask the application must.
      if (this.#token === undefined) this.#renewal.expiring(frame.expiresIn);
      this.emit('token-expiring', frame);
    }
  }

  /** What this peer was told with `joined` is different now. @param {import('./standing.js').Change} frame */
  #onStanding(frame) {
    const events = this.#standing.apply(frame);
    if (!this.may('admit')) this.#roster.forgetKnocks();
    for (const [name, detail] of events) this.emit(name, detail);
  }

  /** A new peer with nothing owed to the one before it. @param {Joined} joined */
  #joined(joined) {
    this.#dialer.welcomed(joined);
    this.#standing.self = joined;
    this.#roster.reset(joined.peers, joined.waiting);
    this.#inbox.start(joined.seq, joined.limits.backlog);
    this.#queue.rejoin((peerId) => this.peers.has(peerId));
    this.#setState('open');
    this.emit('joined', joined);
    this.#queue.open(joined.limits.frameBytes);
    this.#first?.resolve(joined);
  }

  /** The same peer on a new connection, or on this one with another mailbox. @param {Resumed} resumed */
  #resumed(resumed) {
    const { recovered, seq, lastId, limits, peers, waiting } = resumed;
    // Let in while the connection was away: all of it is new.
    if (!this.self) return this.#joined({ ...resumed, type: 'joined' });
    this.#dialer.welcomed(resumed);
    this.#standing.self = resumed;
    if (recovered) {
      // The roster is that of `since`, and the entries that follow bring it to now.
      this.#inbox.resume(limits.backlog);
    } else {
      const known = new Set([...this.peers.keys(), ...peers.map(({ peerId }) => peerId)]);
      this.#inbox.restart(seq, limits.backlog, (peerId) => known.has(peerId));
      this.#roster.reset(peers, waiting);
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
    const { code, message, field, retryMs } = frame;
    const error = new SignalingError(code, message, { field, retryMs });
    if (this.#renewal.refused(error)) return undefined;
    this.#dialer.said(frame);
    return this.emit('error', error);
  }

  #onDown() {
    this.#queue.pause();
    this.#inbox.stop();
    this.#renewal.stop();
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
