/**
 * What a moderator does. An entry point of its own, `@signalbox/client/moderation`, because most
 * pages have no moderator. The server checks the permission of each action.
 *
 * @typedef {import('./room.js').Room} Room
 * @typedef {string | { readonly peerId: string }} PeerReference a peerId, or an object with one,
 *   such as a `Peer` or a peer in the lobby
 */

/** Admits a peer from the lobby. Needs `admit`. @param {Room} room @param {PeerReference} peer */
export function admit(room, peer) {
  return actOn(room, 'admit', peer);
}

/** Removes a peer from the lobby. Needs `admit`. @param {Room} room @param {PeerReference} peer */
export function deny(room, peer) {
  return kick(room, peer);
}

/**
 * Removes a peer from the room; it cannot return with the same token. Needs `moderate`.
 *
 * @param {Room} room
 * @param {PeerReference} peer
 */
export function kick(room, peer) {
  return actOn(room, 'kick', peer);
}

/**
 * Removes the permission `publish` from a peer, or restores it. Needs `moderate`.
 *
 * @param {Room} room
 * @param {PeerReference} peer
 * @param {boolean} [on] false restores it
 */
export function mute(room, peer, on = true) {
  return actOn(room, 'mute', peer, on ? {} : { muted: false });
}

/**
 * Locks the room against new peers, or unlocks it. Needs `moderate`.
 *
 * @param {Room} room
 * @param {boolean} locked
 */
export function lock(room, locked) {
  return room.client.send({ type: 'lock', locked });
}

/**
 * Turns the lobby on, so that new peers wait until they are admitted, or off, which admits all waiting
 * peers. Needs `moderate` and `admit`.
 *
 * @param {Room} room
 * @param {boolean} lobby
 */
export function setLobby(room, lobby) {
  return room.client.send({ type: 'lobby', lobby });
}

/**
 * Ends the room: all peers leave, also this one. Needs `end`.
 *
 * @param {Room} room
 * @param {{ lock?: boolean }} [options] `lock`: peers cannot open the room again
 */
export function end(room, options = {}) {
  return room.client.send({ type: 'end', ...(options.lock && { lock: true }) });
}

/** @param {Room} room @param {string} type @param {PeerReference} peer @param {object} [more] */
function actOn(room, type, peer, more) {
  return room.client.send({ type, peer: typeof peer === 'string' ? peer : peer.peerId, ...more });
}
