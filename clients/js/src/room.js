/**
 * A call in one object: a {@link SignalingClient} and one {@link Peer} for everyone else in the room. Owns who is connected and what is
 * sent to all of them; must not touch the document.
 */
import { SignalingClient } from './client.js';
import { Emitter } from './events.js';
import { guestToken } from './http.js';
import { Peer } from './peer.js';

/**
 * @typedef {object} RoomOptions
 * @property {string} room
 * @property {string} [name] how others see this peer
 * @property {string} [user] the same for every tab that is the same person; made up where absent
 * @property {MediaStream | null} [media] what to send from the beginning
 * @property {string | URL} [url] of the server; the page's own origin where absent
 * @property {() => Promise<string> | string} [getToken] a guest's token is asked for where absent; asked again before the token's life ends
 * @property {string} [token] in place of `getToken`: one that the application renews by {@link Room.refresh}
 * @property {boolean} [ticket] whether each token is exchanged for a ticket right before it is used to connect
 * @property {RTCConfiguration} [rtc] added to the ICE configuration that the server gives
 * @property {import('./handle.js').HandlePlace | null} [session] where the handle survives a reload: sessionStorage where absent, null for
 *   nowhere
 *
 * @typedef {string | { readonly peerId: string }} Somebody a peerId, or whatever has one: a {@link Peer}, who knocks
 *
 * @typedef {object} RoomEvents
 * @property {Peer} peer someone to connect to; `peer.on('closed')` is the end of it
 */

/** @extends {Emitter<RoomEvents>} */
export class Room extends Emitter {
  /** @readonly @type {SignalingClient} */
  client;
  /** @type {Map<string, Peer>} */
  #peers = new Map();
  /** Who is in the room and was closed by the page. @type {Set<string>} */
  #dismissed = new Set();
  /** What is sent to everyone, by kind. @type {Map<string, MediaStreamTrack | null>} */
  #tracks = new Map();
  #rtc;

  /** @param {RoomOptions} options */
  constructor({ room, name, user, media, url, getToken, token, ticket, rtc, session = placeOf([url, room, user, name]) }) {
    super();
    this.#rtc = rtc;
    for (const track of media?.getTracks() ?? []) this.#tracks.set(track.kind, track);
    const asGuest = token === undefined ? () => guestToken({ url, room, user, name }) : undefined;
    this.client = new SignalingClient({ url, session, token, ticket, getToken: getToken ?? asGuest });
    this.client.on('joined', ({ peers }) => this.#connectAll(peers));
    this.client.on('resumed', ({ recovered }) => !recovered && this.#connectNew());
    this.client.on('peer-joined', ({ peerId }) => this.#peers.has(peerId) || this.#connect(peerId));
  }

  /** Everyone this side has a connection to, by peerId. @returns {ReadonlyMap<string, Peer>} */
  get peers() {
    return this.#peers;
  }

  /** Who waits to be let in, by peerId, where this peer may let them in. */
  get waiting() {
    return this.client.waiting;
  }

  /** Whether this peer has the permission now: `publish`, `message`, `moderate`, `admit`, `end`, … @param {string} permission */
  may(permission) {
    return this.client.may(permission);
  }

  /** Resolves when this peer is in the room, and that is after the lobby where there is one; rejects with a `SignalingError` if it may not be. */
  join() {
    return this.client.connect();
  }

  /** Synchronous, so that a page may call it on `pagehide`. */
  leave() {
    this.client.leave();
  }

  /**
   * Sends this track to everyone, now and later, in place of the one of that kind before it; null sends none.
   *
   * @param {'audio' | 'video'} kind
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await Promise.all([...this.#peers.values()].map((peer) => peer.setTrack(kind, track)));
  }

  /** Lets somebody in who waits. Needs `admit`. @param {Somebody} peer */
  admit(peer) {
    return this.client.send({ type: 'admit', peer: idOf(peer) });
  }

  /** Sends somebody away who waits. Needs `admit`. @param {Somebody} peer */
  deny(peer) {
    return this.kick(peer);
  }

  /** Removes somebody from the room, who cannot come back with the same token. Needs `moderate`. @param {Somebody} peer */
  kick(peer) {
    return this.client.send({ type: 'kick', peer: idOf(peer) });
  }

  /** Takes the permission `publish` away from somebody, or gives it back. Needs `moderate`. @param {Somebody} peer @param {boolean} [on] */
  mute(peer, on = true) {
    return this.client.send({ type: 'mute', peer: idOf(peer), ...(!on && { muted: false }) });
  }

  /** Closes the room to newcomers, or opens it again. Needs `moderate`. @param {boolean} locked */
  lock(locked) {
    return this.client.send({ type: 'lock', locked });
  }

  /** Ends the room: everybody leaves it, this peer too; locked, nobody opens it again. Needs `end`. @param {{ lock?: boolean }} [options] */
  end({ lock = false } = {}) {
    return this.client.send({ type: 'end', ...(lock && { lock }) });
  }

  /** Shows the server a newer token. @param {string} token */
  refresh(token) {
    return this.client.refresh(token);
  }

  /** @param {{ peerId: string }[]} peers those that are there when this side joins, perhaps not for the first time */
  #connectAll(peers) {
    for (const old of [...this.#peers.values()]) old.close('session_gone');
    this.#dismissed.clear();
    for (const { peerId } of peers) this.#connect(peerId);
  }

  /** Each {@link Peer} looks after itself when the room is told anew; who had none yet gets one. */
  #connectNew() {
    for (const peerId of this.client.peers.keys()) {
      if (!this.#peers.has(peerId) && !this.#dismissed.has(peerId)) this.#connect(peerId);
    }
  }

  /** @param {string} peerId */
  #connect(peerId) {
    const tracks = [...this.#tracks.values()].filter((track) => track !== null);
    const peer = new Peer({ client: this.client, peerId, tracks, rtc: this.#rtc });
    this.#peers.set(peerId, peer);
    peer.on('closed', () => this.#closed(peerId));
    this.emit('peer', peer);
  }

  /** @param {string} peerId */
  #closed(peerId) {
    this.#peers.delete(peerId);
    if (this.client.peers.has(peerId)) this.#dismissed.add(peerId);
  }
}

/** @param {Somebody} peer */
function idOf(peer) {
  return typeof peer === 'string' ? peer : peer.peerId;
}

/**
 * The place of this peer's handle in the tab: by room and by who asks for it, because whoever comes back with it is that very peer again.
 *
 * @param {unknown[]} parts
 * @returns {import('./handle.js').HandlePlace | null}
 */
function placeOf(parts) {
  try {
    const { sessionStorage: storage } = globalThis;
    return storage ? { storage, key: `signalbox.resume ${JSON.stringify(parts.map((part) => part ?? null))}` } : null;
  } catch {
    return null; // storage is switched off
  }
}
