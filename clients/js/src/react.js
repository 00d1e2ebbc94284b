'use client';
/**
 * Hooks for React: a component is in a room while it is mounted. An entry point of its own,
 * `@signalbox/client/react`. Owns what components show of a room and of its peers, as stores that
 * React reads. React is not part of the package: the application brings it.
 */
import { useEffect, useMemo, useSyncExternalStore } from 'react';
import { nameTracks } from './local-tracks.js';
import { join } from './room.js';

/**
 * @typedef {import('./peer.js').Peer} Peer
 * @typedef {import('./room.js').Room} Room
 * @typedef {Omit<import('./room.js').RoomOptions, 'signal' | 'onState'>} UseRoomOptions
 *
 * @typedef {object} RoomView what a component shows of a room: another object after each change, and
 *   the same object without one
 * @property {Room | null} room null until the component is mounted
 * @property {import('./client.js').ClientState} state `connecting` until the component is mounted
 * @property {import('./signaling-error.js').SignalingError} [error] why the connection is lost, or
 *   why this peer is not in the room
 * @property {number} [retryInMs] until the next attempt, in the state `waiting`
 * @property {readonly Peer[]} peers the other peers
 *
 * @typedef {object} PeerView what a component shows of a peer, as {@link RoomView}
 * @property {import('./peer.js').PeerState} state
 * @property {string} name
 * @property {import('./messages.js').PeerEntry} info
 * @property {MediaStream} stream the microphone and the camera; always the same object
 * @property {ReadonlyMap<string, MediaStream>} streams by name, such as `screen`
 * @property {RTCDataChannel | null} dataChannel null until it is open
 */

/** @type {RoomView} */
const NO_ROOM = { room: null, state: 'connecting', peers: [] };

/**
 * Is in the room while the component is mounted. Another `url`, `room`, `user` or `name` is another
 * room. Other `media` replace the tracks in the same room. The other options are those of the first
 * render with this room.
 *
 * @param {UseRoomOptions} options
 * @returns {RoomView}
 */
export function useRoom(options) {
  const { url, room, user, name, media = null } = options;
  const presence = useMemo(() => new RoomPresence(options), [String(url), room, user, name]);
  const view = useSyncExternalStore(presence.subscribe, presence.getView, () => NO_ROOM);
  // React runs effects in their order: `subscribe` has made the room before.
  useEffect(() => presence.sendMedia(media), [presence, media]);
  return view;
}

/**
 * Renders the component again when the peer changes: its state, name, tracks or data channel.
 *
 * @param {Peer} peer
 * @returns {PeerView}
 */
export function usePeer(peer) {
  const { subscribe, getView } = peerStore(peer);
  return useSyncExternalStore(subscribe, getView, getView);
}

/**
 * A value that changes, and the functions to call then.
 *
 * @template View
 */
class Store {
  /** @protected @type {Set<() => void>} */
  listeners = new Set();
  /** @protected @type {View} */
  view;

  /** @param {View} view */
  constructor(view) {
    this.view = view;
  }

  getView = () => this.view;

  /** @param {() => void} listener @returns {() => void} */
  subscribe = (listener) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };

  /** @param {View} view */
  show(view) {
    this.view = view;
    for (const listener of this.listeners) listener();
  }
}

/** @type {WeakMap<Peer, Store<PeerView>>} */
const peerStores = new WeakMap();

/** The store of a peer, the same one for all components. It listens as long as the peer exists. @param {Peer} peer */
function peerStore(peer) {
  const read = () => {
    const { state, name, info, stream, streams, dataChannel } = peer;
    return { state, name, info, stream, streams, dataChannel };
  };
  const known = peerStores.get(peer);
  if (known) return known;
  const store = new Store(read());
  peerStores.set(peer, store);
  for (const event of /** @type {const} */ (['state', 'info', 'tracks', 'datachannel', 'connection'])) peer.on(event, () => store.show(read()));
  return store;
}

/**
 * Is in the room while it has a listener.
 *
 * @extends {Store<RoomView>}
 */
class RoomPresence extends Store {
  #options;
  /** Ends the presence; null outside of the room. @type {AbortController | null} */
  #abort = null;
  /** The names of the tracks that {@link sendMedia} has sent. @type {string[]} */
  #sent = [];

  /** @param {UseRoomOptions} options */
  constructor(options) {
    super(NO_ROOM);
    this.#options = { ...options, media: null };
  }

  /** @override @param {() => void} listener */
  subscribe = (listener) => {
    this.listeners.add(listener);
    this.#abort ??= this.#enter();
    return () => {
      this.listeners.delete(listener);
      // StrictMode mounts, unmounts and mounts again in one task, and stays in the room.
      queueMicrotask(() => this.listeners.size === 0 && this.#leave());
    };
  };

  /**
   * Sends these tracks instead of the earlier ones.
   *
   * @param {MediaStream | null} media
   */
  sendMedia(media) {
    const { room } = this.view;
    if (!room) return;
    const tracks = new Map(nameTracks(media?.getTracks() ?? []));
    for (const name of new Set([...this.#sent, ...tracks.keys()])) {
      // A connection that refuses a track reports it as an event of its peer, or is closing.
      void room.setTrack(name, tracks.get(name) ?? null).catch(() => {});
    }
    this.#sent = [...tracks.keys()];
  }

  #enter() {
    const abort = new AbortController();
    const { signal } = abort;
    /** @param {Partial<RoomView>} change */
    const update = (change) => signal.aborted || this.show({ ...this.view, ...change });
    /** @param {Room} room */
    const watchPeers = (room) => {
      const showPeers = () => update({ peers: [...room.peers.values()] });
      room.on('peer', (peer) => {
        showPeers();
        peer.on('closed', showPeers, { signal });
      }, { signal });
    };
    join({ ...this.#options, signal, onState: ({ state, error, retryInMs }, room) => update({ room, state, error, retryInMs }) })
      // The state of a room has its error already.
      .then(watchPeers, (error) => this.view.room || update({ state: 'closed', error }));
    return abort;
  }

  #leave() {
    this.#abort?.abort();
    this.#abort = null;
    this.#sent = [];
    this.view = NO_ROOM;
  }
}
