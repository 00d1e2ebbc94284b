/**
 * A whole call: one {@link SignalingClient}, and one {@link Peer} for each other peer of the room.
 * Owns these connections and the tracks that are sent on them. Does not touch the document.
 */
import { SignalingClient } from './client.js';
import { SignalingError } from './signaling-error.js';
import { guestToken } from './http.js';
import { nameTracks, replaceTracks } from './local-tracks.js';
import { checkOption, withRuntime } from './option-checks.js';
import { Peer } from './peer.js';
import { TypedEmitter } from './typed-emitter.js';

/**
 * @typedef {import('./client.js').StateChange} StateChange
 * @typedef {import('./client.js').GetTicket} GetTicket
 *
 * @typedef {object} RoomOptions
 * @property {string} room
 * @property {string} [name] the name that other peers see
 * @property {string} [user] the user of this peer; default: the server creates one
 * @property {MediaStream | null} [media] the tracks to send from the start
 * @property {string | URL} [url] of the server; default: the origin of the page
 * @property {() => Promise<string> | string} [getToken] called before each join, and before a token
 *   expires; default: requests a token for a guest
 * @property {AbortSignal} [signal] leaves the room, also while it waits to be admitted
 * @property {(change: StateChange, room: Room) => void} [onState] called with each state, also before
 *   this peer is in the room: `lobby` means that a moderator must admit it
 * @property {GetTicket} [getTicket] exchanges each token for a ticket, if the server accepts
 *   tickets only: `ticketFor`
 * @property {RTCConfiguration} [rtc] added to the ICE configuration of the server
 * @property {import('./resume-handle.js').HandleStorage | null} [handleStorage] where the resume
 *   handle survives a reload; default: sessionStorage; null: nowhere
 * @property {typeof RTCPeerConnection} [RTCPeerConnection] these four replace those of the runtime,
 *   for React Native and Node
 * @property {typeof MediaStream} [MediaStream]
 * @property {typeof WebSocket} [WebSocket]
 * @property {typeof fetch} [fetch]
 *
 * @typedef {object} RoomEvents
 * @property {Peer} peer a new connection; `peer.on('closed')` reports its end. A late listener gets
 *   the peers that are there
 * @property {StateChange} state a late listener gets the current one
 * @property {{ data: any, peer?: Peer, from?: string }} message without `from`: sent by the application
 * @property {{ peerId: string, error: unknown }} error this browser could not create a connection
 *   to a peer; the room tries it again with the next ICE servers
 */

/** The rooms that this page is in, or is about to join. @type {Map<string, Room>} */
const rooms = new Map();

/**
 * Joins a room. While this page is in the room, or joins it, the same server, room, user and name
 * give the same `Room`.
 *
 * @param {RoomOptions} options
 * @returns {Promise<Room>} resolves when this peer is in the room, after the lobby; rejected with a
 *   {@link SignalingError}
 */
export async function join(options) {
  const { url, room: name, user, name: ownName, signal } = options;
  if (signal?.aborted) throw abortedError();
  const key = JSON.stringify([url, name, user, ownName]);
  const room = rooms.get(key) ?? new Room(options, key);
  return room.enter(options);
}

function abortedError() {
  return new SignalingError('aborted', 'The join was cancelled.');
}

/** Made by {@link join}. @extends {TypedEmitter<RoomEvents>} */
export class Room extends TypedEmitter {
  /** @readonly @type {SignalingClient} */
  client;
  /** Why this peer is no longer in the room, as soon as that is so. @readonly @type {Promise<SignalingError>} */
  left;
  /** @type {StateChange} */
  #change = { state: 'idle' };
  /** How many callers of {@link join} have not aborted. */
  #callers = 0;
  /** The connections to other peers, by peerId. @readonly @type {Map<string, Peer>} */
  peers = new Map();
  /** Peers that are in the room, but whose connection the page has closed. @type {Set<string>} */
  #dismissed = new Set();
  /** `name/kind` → the track that is sent to all peers. @type {Map<string, MediaStreamTrack | null>} */
  #tracks = new Map();
  #options;

  /** @param {RoomOptions} given @param {string} key of this room in the page @throws {SignalingError} `bad_option` or `not_supported` */
  constructor(given, key) {
    super();
    const options = withRuntime(given, 'RTCPeerConnection', 'MediaStream');
    const { room, name, user, media, url, fetch, getToken = () => guestToken({ url, fetch, room, user, name }) } = options;
    checkOption('room', typeof room === 'string' && room);
    this.#options = options;
    const { handleStorage = tabStorage(key) } = options;
    for (const [name, track] of nameTracks(media?.getTracks() ?? [])) replaceTracks(this.#tracks, name, track);
    const client = new SignalingClient({ ...options, handleStorage, getToken });
    this.client = client;
    rooms.set(key, this);
    client.on('lobby', ({ roomId }) => this.#checkRoom(roomId));
    client.on('joined', ({ roomId }) => this.#checkRoom(roomId) && this.#connectAll());
    for (const name of /** @type {const} */ (['resumed', 'ice-servers', 'peer-joined'])) client.on(name, () => this.#connectNew());
    client.on('message', ({ from, data }) => this.peers.has(/** @type {string} */ (from)) || this.emit('message', { data, from }));
    this.left = new Promise((resolve) => {
      client.on('state', (change) => {
        this.#change = change;
        if (change.error && change.state === 'closed') {
          rooms.delete(key);
          resolve(change.error);
        }
        this.emit('state', change);
      });
    });
  }

  get state() {
    return this.#change.state;
  }

  /**
   * Whether this peer has the permission now.
   *
   * @param {string} permission `publish`, `message`, `moderate`, `admit`, `end`, …
   */
  may(permission) {
    return this.client.may(permission);
  }

  /**
   * One call of {@link join}, which calls it. The room is left when all callers have aborted.
   *
   * @param {RoomOptions} options
   * @returns {Promise<Room>}
   */
  enter({ signal, onState }) {
    this.#callers += 1;
    if (onState) this.on('state', (change) => onState(change, this));
    const joined = this.client.connect();
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => {
        reject(abortedError());
        this.#callers -= 1;
        if (this.#callers === 0) this.leave();
      });
      joined.then(() => resolve(this), reject);
    });
  }

  /** Leaves the room. Synchronous, so that a page can call it on `pagehide`. */
  leave() {
    this.client.leave();
  }

  /** Rests the signaling and keeps the connections to other peers, see {@link SignalingClient.pause}. */
  pause() {
    this.client.pause();
  }

  /** Ends {@link pause}. */
  resume() {
    this.client.resume();
  }

  /** Sends a message to all other peers. @param {unknown} data any JSON */
  send(data) {
    return this.client.message(data);
  }

  /**
   * Sends this track to all peers instead of the current one of this name and kind; null stops sending
   * all tracks of this name.
   *
   * @param {string} name `audio`, `video`, or another name for further tracks, such as `screen`: the
   *   other side gets them as {@link Peer.streams}
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(name, track) {
    replaceTracks(this.#tracks, name, track);
    await Promise.all([...this.peers.values()].map((peer) => peer.setTrack(name, track)));
  }

  /** @protected @override @param {string} name */
  past(name) {
    if (name === 'peer') return [...this.peers.values()];
    return name === 'state' && this.state !== 'idle' ? [this.#change] : [];
  }

  /** Leaves a room that is not the one of the options. @param {string} roomId */
  #checkRoom(roomId) {
    const { room } = this.#options;
    if (roomId === room) return true;
    return this.client.leave(new SignalingError('wrong_room', `The token is for the room ${roomId}, and not for ${room}.`));
  }

  /** This client has joined as a new peer. */
  #connectAll() {
    for (const old of [...this.peers.values()]) old.close('session_gone');
    this.#dismissed.clear();
    this.#connectNew();
  }

  /** Connects to new peers. Each existing {@link Peer} handles a snapshot itself. */
  #connectNew() {
    for (const peerId of this.client.peers.keys()) {
      if (!this.peers.has(peerId) && !this.#dismissed.has(peerId)) this.#connect(peerId);
    }
  }

  /** @param {string} peerId */
  #connect(peerId) {
    try {
      const peer = new Peer({ ...this.#options, client: this.client, peerId, tracks: this.#tracks });
      this.peers.set(peerId, peer);
      peer.on('message', (data) => this.emit('message', { data, peer, from: peerId }));
      peer.on('closed', () => this.#onClosed(peerId));
      this.emit('peer', peer);
    } catch (error) {
      this.emit('error', { peerId, error });
    }
  }

  /** @param {string} peerId */
  #onClosed(peerId) {
    this.peers.delete(peerId);
    if (this.client.peers.has(peerId)) this.#dismissed.add(peerId);
  }
}

/**
 * Returns the place of the handle in the storage of this tab. The key contains the server, room,
 * user and name, because a client with this handle becomes the same peer.
 *
 * @param {string} key
 * @returns {import('./resume-handle.js').HandleStorage | null}
 */
function tabStorage(key) {
  try {
    const { sessionStorage: storage } = globalThis;
    return storage && { storage, key: `signalbox.resume ${key}` };
  } catch {
    return null; // the storage is disabled
  }
}
