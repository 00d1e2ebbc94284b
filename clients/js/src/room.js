/**
 * A whole call: one {@link SignalingClient}, and one {@link Peer} for each other peer of the room.
 * Owns these connections and the tracks that are sent on them. Does not touch the document.
 */
import { SignalingClient } from './client.js';
import { SignalingError } from './signaling-error.js';
import { guestToken } from './http.js';
import { LocalTracks, nameTracks } from './local-tracks.js';
import { checkRoomOptions } from './option-checks.js';
import { Peer } from './peer.js';
import { TypedEmitter } from './typed-emitter.js';

/**
 * @typedef {object} RoomOptions
 * @property {string} room
 * @property {string} [name] the name that other peers see
 * @property {string} [user] the user of this peer; default: the server creates one
 * @property {MediaStream | null} [media] the tracks to send from the start
 * @property {string | URL} [url] of the server; default: the origin of the page
 * @property {() => Promise<string> | string} [getToken] called before each join, and before a token
 *   expires; default: requests a token for a guest
 * @property {string} [token] instead of `getToken`: a token that the application renews with
 *   {@link Room.refresh}
 * @property {boolean} [ticket] whether to exchange each token for a ticket before it connects
 * @property {RTCConfiguration} [rtc] added to the ICE configuration of the server
 * @property {import('./resume-handle.js').HandleStorage | null} [handleStorage] where the resume
 *   handle survives a reload; default: sessionStorage; null: nowhere
 *
 * @typedef {string | { readonly peerId: string }} PeerReference a peerId, or an object with one,
 *   such as a {@link Peer} or a peer in the lobby
 *
 * @typedef {object} RoomEvents
 * @property {Peer} peer a new connection; `peer.on('closed')` reports its end
 * @property {{ peerId: string, error: unknown }} error this browser could not create a connection
 *   to a peer; the room tries it again with the next ICE servers
 */

/** @extends {TypedEmitter<RoomEvents>} */
export class Room extends TypedEmitter {
  /** @readonly @type {SignalingClient} */
  client;
  /** @type {Map<string, Peer>} */
  #peers = new Map();
  /** Peers that are in the room, but whose connection the page has closed. @type {Set<string>} */
  #dismissed = new Set();
  /**
   * Name → the track that is sent to all peers.
   *
   * @type {Map<string, { track: MediaStreamTrack | null, stream?: MediaStream }>}
   */
  #tracks = new Map();
  /** The tracks on a connection that is ready for the next peer. @type {LocalTracks | undefined} */
  #spare;
  #options;

  /** @param {RoomOptions} options @throws {SignalingError} `bad_option` or `not_supported` */
  constructor(options) {
    super();
    checkRoomOptions(options);
    this.#options = options;
    const { room, name, user, media, url, token, getToken = token === undefined ? () => guestToken({ url, room, user, name }) : undefined } = options;
    const { handleStorage = tabStorage([url, room, user, name]) } = options;
    for (const [name, track] of nameTracks(media?.getTracks() ?? [])) this.#tracks.set(name, { track });
    const checkedToken = async () => this.#checkToken(await getToken?.() ?? '');
    const client = new SignalingClient({ ...options, handleStorage, getToken: typeof getToken === 'function' ? checkedToken : getToken });
    this.client = client;
    client.on('lobby', ({ roomId }) => this.#checkRoom(roomId));
    client.on('joined', ({ roomId }) => this.#checkRoom(roomId) && this.#connectAll());
    for (const name of /** @type {const} */ (['resumed', 'ice-servers', 'peer-joined'])) client.on(name, () => this.#connectNew());
    client.on('state', ({ state }) => {
      if (state === 'closed') this.#spare = void this.#spare?.pc.close();
    });
  }

  /** The connections to other peers, by peerId. @returns {ReadonlyMap<string, Peer>} */
  get peers() {
    return this.#peers;
  }

  /** The peers in the lobby, by peerId; only with the permission `admit`. */
  get waiting() {
    return this.client.waiting;
  }

  /**
   * Whether this peer has the permission now.
   *
   * @param {string} permission `publish`, `message`, `moderate`, `admit`, `end`, …
   */
  may(permission) {
    return this.client.may(permission);
  }

  /** Resolves when this peer is in the room, after the lobby. Rejects with a `SignalingError`. */
  async join() {
    this.#checkToken(this.#options.token ?? '');
    const joined = this.client.connect();
    // While the request for the token is on its way.
    if (!this.#spare && this.#peers.size === 0) this.#keepSpare();
    return joined;
  }

  /** Leaves the room. Synchronous, so that a page can call it on `pagehide`. */
  leave() {
    this.client.leave();
  }

  /**
   * Sends this track to all peers instead of the current one of this name; null stops sending.
   *
   * @param {string} name `audio`, `video`, or another name for a further track, such as `screen`
   * @param {MediaStreamTrack | null} track
   * @param {MediaStream} [stream] its id is a key of {@link Peer.streams} on the other side; a name
   *   keeps its first stream. Default: the stream of `audio` and `video`
   */
  async setTrack(name, track, stream) {
    this.#tracks.set(name, { track, stream });
    await Promise.all([...this.#peers.values(), this.#spare].map((peer) => peer?.setTrack(name, track, stream)));
  }

  /** Admits a peer from the lobby. Needs `admit`. @param {PeerReference} peer */
  admit(peer) {
    return this.#moderate('admit', peer);
  }

  /** Removes a peer from the lobby. Needs `admit`. @param {PeerReference} peer */
  deny(peer) {
    return this.kick(peer);
  }

  /**
   * Removes a peer from the room; it cannot return with the same token. Needs `moderate`.
   *
   * @param {PeerReference} peer
   */
  kick(peer) {
    return this.#moderate('kick', peer);
  }

  /**
   * Removes the permission `publish` from a peer, or restores it. Needs `moderate`.
   *
   * @param {PeerReference} peer
   * @param {boolean} [on] false restores it
   */
  mute(peer, on = true) {
    return this.#moderate('mute', peer, on ? {} : { muted: false });
  }

  /** Locks the room against new peers, or unlocks it. Needs `moderate`. @param {boolean} locked */
  lock(locked) {
    return this.client.send({ type: 'lock', locked });
  }

  /**
   * Ends the room: all peers leave, also this one. Needs `end`.
   *
   * @param {{ lock?: boolean }} [options] `lock`: peers cannot open the room again
   */
  end({ lock = false } = {}) {
    return this.client.send({ type: 'end', ...(lock && { lock }) });
  }

  /** Sends a new token to the server. @param {string} token */
  refresh(token) {
    return this.client.refresh(token);
  }

  /** @param {string} type @param {PeerReference} peer @param {object} [more] */
  #moderate(type, peer, more) {
    return this.client.send({ type, peer: typeof peer === 'string' ? peer : peer.peerId, ...more });
  }

  /**
   * Returns a token if it is for the room, or if it does not tell its room, as a ticket.
   *
   * @param {string} token
   * @throws {SignalingError} `wrong_room`
   */
  #checkToken(token) {
    const { room } = this.#options;
    if ((roomOf(token) ?? room) !== room) throw this.#wrongRoom(roomOf(token));
    return token;
  }

  /** A ticket or a stored handle may be for another room, which this peer leaves. @param {string} roomId */
  #checkRoom(roomId) {
    const isRight = roomId === this.#options.room;
    if (!isRight) this.client.leave(this.#wrongRoom(roomId));
    return isRight;
  }

  /** @param {string} roomId */
  #wrongRoom(roomId) {
    return new SignalingError('wrong_room', `The token is for the room ${roomId}, and not for ${this.#options.room}. Request another token.`);
  }

  /** This client has joined as a new peer. */
  #connectAll() {
    for (const old of [...this.#peers.values()]) old.close('session_gone');
    this.#dismissed.clear();
    this.#connectNew();
  }

  /** Connects to new peers. Each existing {@link Peer} handles a snapshot itself. */
  #connectNew() {
    for (const peerId of this.client.peers.keys()) {
      if (!this.#peers.has(peerId) && !this.#dismissed.has(peerId)) this.#connect(peerId);
    }
  }

  /** @param {string} peerId */
  #connect(peerId) {
    const onError = (/** @type {unknown} */ error) => this.emit('error', { peerId, error });
    try {
      const peer = new Peer({ client: this.client, peerId, rtc: this.#options.rtc, spare: this.#spare });
      this.#spare = undefined;
      this.#peers.set(peerId, peer);
      peer.on('closed', () => this.#onClosed(peerId));
      for (const [name, { track, stream }] of this.#tracks) peer.setTrack(name, track, stream).catch(onError);
      this.emit('peer', peer);
    } catch (error) {
      onError(error);
    }
  }

  /** @param {string} peerId */
  #onClosed(peerId) {
    this.#peers.delete(peerId);
    if (this.client.peers.has(peerId)) this.#dismissed.add(peerId);
    if (this.#peers.size === 0 && this.client.state !== 'closed') this.#keepSpare();
  }

  /**
   * Makes a connection with the tracks before its peer is known, because that takes a browser several
   * milliseconds. Without a description it opens no port and asks no ICE server. There is one only
   * while there is no peer, because most calls have one other peer.
   */
  #keepSpare() {
    try {
      const pc = new RTCPeerConnection(this.#options.rtc);
      // Such a browser could not get the ICE servers of `joined` later.
      if (!pc.setConfiguration) return pc.close();
      // Before `joined` the permissions are not known; most peers have them.
      this.#spare = new LocalTracks(pc, (permission) => !this.client.self || this.may(permission));
      for (const [name, { track, stream }] of this.#tracks) void this.#spare.setTrack(name, track, stream);
    } catch {
      // The connection to a peer reports it.
    }
  }
}

/** The room in the claims of a JWT. @param {string} token */
function roomOf(token) {
  try {
    const [, claims = ''] = token.split('.');
    return JSON.parse(atob(claims.replaceAll('-', '+').replaceAll('_', '/'))).room;
  } catch {
    return undefined;
  }
}

/**
 * Returns the place of the handle in the storage of this tab. The key contains the server, room,
 * user and name, because a client with this handle becomes the same peer.
 *
 * @param {unknown[]} parts
 * @returns {import('./resume-handle.js').HandleStorage | null}
 */
function tabStorage(parts) {
  try {
    const { sessionStorage: storage } = globalThis;
    return storage && { storage, key: `signalbox.resume ${JSON.stringify(parts)}` };
  } catch {
    return null; // the storage is disabled
  }
}
