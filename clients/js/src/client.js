/**
 * A client of the signaling protocol: keeps one peer connected to one room, emits typed events, and
 * settles each outgoing message with the reply of the server. Owns the order in which its parts
 * act. Does not know WebRTC (see peer.js) or the page (see room.js).
 */
import { MailboxReader } from './mailbox-reader.js';
import { checkOption, isServer, withRuntime } from './option-checks.js';
import { ReconnectingSocket } from './reconnecting-socket.js';
import { RoomState } from './room-state.js';
import { SendQueue } from './send-queue.js';
import { SignalingError, toError } from './signaling-error.js';
import { TokenRenewal, connectionLost } from './token-renewal.js';
import { TypedEmitter } from './typed-emitter.js';

/**
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').WaitingPeer} WaitingPeer
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 *
 * @typedef {'idle' | 'connecting' | 'open' | 'lobby' | 'waiting' | 'paused' | 'closed'} ClientState
 *   `lobby`: connected, but not admitted yet; `waiting`: until the next attempt to connect
 * @typedef {{ state: ClientState, error?: SignalingError, retryInMs?: number }} StateChange `error`:
 *   why the connection is lost, or why this client has left
 *
 * @typedef {(server: import('./http.js').Server & { token: string }) => Promise<string>} GetTicket
 * @typedef {object} ClientOptions
 * @property {() => Promise<string> | string} getToken called before each join and before a token
 *   expires, so a token may be short-lived; a resume needs no token
 * @property {GetTicket} [getTicket] exchanges each token for a ticket, if the server accepts
 *   tickets only: `ticketFor`
 * @property {string | URL} [url] `https://host[/prefix]` of the server; default: the origin of the
 *   page
 * @property {typeof WebSocket} [WebSocket] these two replace those of the runtime, for example in
 *   Node before 22
 * @property {typeof fetch} [fetch]
 * @property {number} [queueCapacity] how many messages may be pending, sent or not
 * @property {import('./resume-handle.js').HandleStorage | null} [handleStorage] where the resume
 *   handle (never a token) survives a reload, so that the next page takes over this peer; default:
 *   nowhere
 *
 * @typedef {object} ClientEvents
 * @property {Joined} joined this client is a new peer: at first, and when a resume was impossible
 * @property {Resumed} resumed the same peer; with `recovered: false`, read
 *   {@link SignalingClient.peers} and renegotiate
 * @property {PeerEntry} peer-joined
 * @property {PeerEntry} peer-updated
 * @property {import('./messages.js').PeerAttachment} peer-detached
 * @property {import('./messages.js').PeerAttachment} peer-attached
 * @property {import('./messages.js').PeerLeft} peer-left
 * @property {import('./messages.js').WaitingFrame} lobby this peer waits until a moderator admits
 *   it; `joined` or the close follows
 * @property {import('./messages.js').WaitingPeer} knock a peer waits in the lobby
 * @property {import('./messages.js').KnockEnded} knock-ended
 * @property {import('./messages.js').RoomInfo} room-updated
 * @property {{ role: string, permissions: string[], muted?: boolean }} permissions the permissions
 *   of this peer changed
 * @property {{ iceServers: RTCIceServer[], icePolicy: RTCIceTransportPolicy }} ice-servers
 * @property {{ expiresIn: number }} token-expiring in milliseconds; the client renews it
 * @property {{ expiresIn: number }} token-refreshed
 * @property {import('./messages.js').Message} message
 * @property {import('./messages.js').LobbyUpdated} lobby-updated the first moderator came, or the last one left
 * @property {import('./messages.js').DescriptionFrame} offer
 * @property {import('./messages.js').DescriptionFrame} answer
 * @property {import('./messages.js').DescriptionFrame} pranswer
 * @property {import('./messages.js').RollbackFrame} rollback
 * @property {import('./messages.js').CandidateFrame} candidate
 * @property {import('./messages.js').NoticeFrame} notice
 * @property {import('./messages.js').GoawayFrame} goaway
 * @property {SignalingError} error an error that belongs to no outgoing message and no state
 * @property {StateChange} state
 */

/** Frames that are no events: `pong`, and frames of a later protocol with the name of an own event. */
const NO_EVENTS = ['pong', 'lobby', 'state'];

/** @extends {TypedEmitter<ClientEvents>} */
export class SignalingClient extends TypedEmitter {
  /** @type {ClientState} */
  state = 'idle';
  #room = new RoomState();
  /** The result of {@link connect}. @type {Promise<Joined> | null} */
  #connected = null;
  /** @type {{ resolve: (joined: Joined) => void, reject: (error: unknown) => void } | undefined} */
  #settle;
  #queue;
  #socket;
  #renewal;
  #mailbox = new MailboxReader((seq) => this.notify({ type: 'received', seq }));
  #send = (/** @type {string} */ text) => this.#socket.send(text);

  /** @param {ClientOptions} options @throws {SignalingError} `bad_option` or `not_supported` */
  constructor({ url = globalThis.location?.origin, ...given }) {
    super();
    const options = withRuntime(/** @type {ClientOptions} */ ({ ...given, url }), 'WebSocket', 'fetch');
    const { getToken } = options;
    checkOption('url', isServer(url));
    checkOption('getToken', typeof getToken === 'function');
    this.#socket = new ReconnectingSocket(options, {
      since: () => this.#mailbox.seq,
      onText: (text) => this.#onText(text),
      onDown: () => this.#onDown(),
      onState: (state, details) => this.#setState(state, details),
      onStopped: (error) => this.#onStopped(error),
    });
    this.#renewal = new TokenRenewal(getToken, this.#send, (error) => this.emit('error', error));
    this.#queue = new SendQueue(this.#send, options.queueCapacity);
  }

  /** The latest `joined` or `resumed`, with later changes; null before the first one. */
  get self() {
    return this.#room.self;
  }

  /** The id of this peer. It stays the same while the server lets the client resume. */
  get peerId() {
    return this.self?.peerId ?? null;
  }

  /**
   * The other peers of the room, by peerId; kept while there is no connection.
   *
   * @returns {ReadonlyMap<string, PeerEntry>}
   */
  get peers() {
    return this.#room.peers;
  }

  /**
   * The peers in the lobby, by peerId; only with the permission `admit`.
   *
   * @returns {ReadonlyMap<string, WaitingPeer>}
   */
  get waiting() {
    return this.#room.waiting;
  }

  /** The public state of the room; null before the first `joined`. */
  get room() {
    return this.self?.room ?? null;
  }

  /** Whether this peer has the permission now. @param {string} permission */
  may(permission) {
    return this.#room.may(permission);
  }

  /**
   * Connects, and keeps the connection open until {@link leave} or a final refusal.
   *
   * @returns {Promise<Joined>} rejected with a {@link SignalingError} after a final refusal
   */
  connect() {
    if (!this.#connected) {
      this.#connected = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
      this.#socket.start();
    }
    return this.#connected;
  }

  /**
   * Sends an application message to one peer, or to all other peers of the room.
   *
   * @param {unknown} data any JSON
   * @param {string} [to] a peerId
   */
  message(data, to) {
    return this.send({ type: 'message', to, data });
  }

  /**
   * Changes the public record of this peer; absent members stay the same.
   *
   * @param {{ name?: string, metadata?: Record<string, unknown> }} change
   */
  update(change) {
    return this.send({ type: 'update', ...change });
  }

  /**
   * Sends a frame with the next message id.
   *
   * @param {import('./send-queue.js').ClientFrame} frame
   * @returns {Promise<import('./messages.js').Ack>} rejected with a {@link SignalingError}
   */
  send(frame) {
    return this.post(frame).done;
  }

  /**
   * As {@link send}, but returns the pending message: an answer or a candidate names its offer in `re`.
   *
   * @param {import('./send-queue.js').ClientFrame} frame
   */
  post(frame) {
    const message = this.#queue.push(frame);
    if (this.state === 'closed') this.#queue.rejectAll(new SignalingError('closed', 'This client has left the room.'));
    return message;
  }

  /**
   * Sends a frame without a message id, if this client is connected. There is no answer but an
   * `error`, and the frame may be lost.
   *
   * @param {{ type: string, [member: string]: unknown }} frame
   */
  notify(frame) {
    this.#send(JSON.stringify(frame));
  }

  /**
   * Sends a new token of the same user and room; it replaces the current token.
   *
   * @param {string} token
   * @returns {Promise<void>} rejected with a {@link SignalingError}, for example `bad_token`
   */
  async refresh(token) {
    if (this.state !== 'open' && this.state !== 'lobby') throw connectionLost();
    return this.#renewal.refresh(token);
  }

  /**
   * Checks the connection now, and replaces a dead one. A page does so by itself when it wakes up or
   * when its network changes; call it where there are no such events, as in a native app.
   */
  wake() {
    this.#socket.wake();
  }

  /**
   * Closes the socket and rests, without timers, until {@link resume}. Within the resume window of
   * the server this client is the same peer then. Later it is a new one, and the other peers have
   * closed their connections to it. Messages wait in the queue.
   */
  pause() {
    this.#socket.pause();
  }

  /** Ends {@link pause}. */
  resume() {
    this.#socket.resume();
  }

  /**
   * Leaves the room for ever. Synchronous, so that a page can call it on `pagehide`.
   *
   * @param {SignalingError} [reason] the error of the state `closed`
   */
  leave(reason = new SignalingError('left', 'This client has left the room.', { closeCode: 1000 })) {
    this.#socket.leave(reason);
  }

  /** @param {string} text */
  #onText(text) {
    try {
      const frame = JSON.parse(text);
      const verdict = this.#mailbox.read(frame, text.length);
      if (verdict === 'gap') this.#socket.drop('seq_gap');
      if (verdict === 'deliver') this.#handle(frame);
    } catch (cause) {
      this.emit('error', new SignalingError('bad_frame', 'The server sent an unknown frame.', { cause }));
    }
  }

  /** @param {ServerFrame} frame */
  #handle(frame) {
    if (typeof frame.type !== 'string') throw new TypeError('no type');
    switch (frame.type) {
      case 'joined':
      case 'waiting':
        return this.#onNewPeer(frame);
      case 'resumed':
        return this.#onResumed(frame);
      case 'ack':
        return this.#queue.onReply(frame);
      case 'error':
        return this.#onError(frame);
      case 'ice-servers':
      case 'permissions':
      case 'room-updated':
        return this.#onChange(frame);
      case 'goaway':
        this.#socket.reconnectIn(frame.reconnectIn);
        break;
      case 'token-expiring':
        this.#renewal.start(frame.expiresIn);
        break;
      case 'token-refreshed':
        this.#socket.setHandle(frame.resume);
        this.#renewal.onRefreshed();
        this.#onChange({ type: 'permissions', role: frame.role, permissions: frame.permissions });
    }
    const detail = this.#room.applyPresence(frame);
    if (!NO_EVENTS.includes(frame.type)) this.emit(/** @type {any} */ (frame.type), detail);
  }

  /** @param {import('./room-state.js').SelfChange} frame */
  #onChange(frame) {
    const events = this.#room.applyChange(frame);
    if (!this.may('admit')) this.#room.waiting.clear();
    for (const [name, detail] of events) this.emit(name, detail);
  }

  /**
   * This client is a new peer, in the room or in the lobby. In the lobby it receives nothing of the
   * room.
   *
   * @param {Joined | import('./messages.js').WaitingFrame} frame
   */
  #onNewPeer(frame) {
    const joined = frame.type === 'joined' ? frame : null;
    this.#mailbox.start(frame.seq, frame.limits.backlog);
    this.#room.replace(joined, joined?.peers, joined?.waiting);
    this.#socket.markUp(frame);
    this.#queue.rejoin((peerId) => this.peers.has(peerId));
    this.#setState(joined ? 'open' : 'lobby');
    this.emit(joined ? 'joined' : 'lobby', /** @type {any} */ (frame));
    if (!joined) return;
    this.#queue.open(joined.limits.frameBytes);
    this.#settle?.resolve(joined);
  }

  /**
   * The same peer: on a new connection, or with a new mailbox on this one.
   *
   * @param {Resumed} resumed
   */
  #onResumed(resumed) {
    const { recovered, seq, lastId, refused, limits, peers, waiting } = resumed;
    // A moderator admitted this peer while the connection was lost, so it knows nothing yet.
    if (!this.self) return this.#onNewPeer({ ...resumed, type: 'joined' });
    this.#socket.markUp(resumed);
    // The peers of a recovered mailbox are those at `since`; the entries that follow update them.
    if (recovered) this.#room.self = resumed;
    else this.#room.replace(resumed, peers, waiting);
    this.#mailbox.resume(limits.backlog, recovered ? undefined : seq);
    this.#queue.resume(lastId, refused);
    if (this.state !== 'open') this.#setState('open');
    // The first frame makes the previous handle invalid; a request with it may still be on its way.
    this.#mailbox.acknowledge();
    this.emit('resumed', resumed);
    this.#queue.open(limits.frameBytes);
  }

  /** @param {ErrorFrame} frame */
  #onError(frame) {
    if (frame.id !== undefined) return this.#queue.onReply(frame);
    const error = toError(frame);
    if (this.#renewal.onError(error)) return undefined;
    this.#socket.noteError(frame);
    return this.emit('error', error);
  }

  #onDown() {
    this.#queue.pause();
    this.#mailbox.stop();
    this.#renewal.stop();
  }

  /** @param {SignalingError} error */
  #onStopped(error) {
    const settle = this.#settle;
    this.#connected = null;
    this.#setState('closed', { error });
    this.#queue.rejectAll(error);
    settle?.reject(error);
  }

  /**
   * @param {ClientState} state
   * @param {{ error?: SignalingError, retryInMs?: number }} [details]
   */
  #setState(state, details = {}) {
    this.state = state;
    this.emit('state', { state, ...details });
  }
}
