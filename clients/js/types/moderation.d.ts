/**
 * What a moderator does. An entry point of its own, `@signalbox/client/moderation`, because most
 * pages have no moderator. The server checks the permission of each action.
 *
 * @typedef {import('./room.js').Room} Room
 * @typedef {string | { readonly peerId: string }} PeerReference a peerId, or an object with one,
 *   such as a `Peer` or a peer in the lobby
 */
export type Room = import('./room.js').Room;
export type PeerReference = string | {
    readonly peerId: string;
};
/** Admits a peer from the lobby. Needs `admit`. @param {Room} room @param {PeerReference} peer */
export declare function admit(room: Room, peer: PeerReference): Promise<import("./messages.js").Ack>;
/** Removes a peer from the lobby. Needs `admit`. @param {Room} room @param {PeerReference} peer */
export declare function deny(room: Room, peer: PeerReference): Promise<import("./messages.js").Ack>;
/**
 * Removes a peer from the room; it cannot return with the same token. Needs `moderate`.
 *
 * @param {Room} room
 * @param {PeerReference} peer
 */
export declare function kick(room: Room, peer: PeerReference): Promise<import("./messages.js").Ack>;
/**
 * Removes the permission `publish` from a peer, or restores it. Needs `moderate`.
 *
 * @param {Room} room
 * @param {PeerReference} peer
 * @param {boolean} [on] false restores it
 */
export declare function mute(room: Room, peer: PeerReference, on?: boolean): Promise<import("./messages.js").Ack>;
/**
 * Locks the room against new peers, or unlocks it. Needs `moderate`.
 *
 * @param {Room} room
 * @param {boolean} locked
 */
export declare function lock(room: Room, locked: boolean): Promise<import("./messages.js").Ack>;
/**
 * Turns the lobby on, so that new peers wait until they are admitted, or off, which admits all waiting
 * peers. Needs `moderate` and `admit`.
 *
 * @param {Room} room
 * @param {boolean} lobby
 */
export declare function setLobby(room: Room, lobby: boolean): Promise<import("./messages.js").Ack>;
/**
 * Ends the room: all peers leave, also this one. Needs `end`.
 *
 * @param {Room} room
 * @param {{ lock?: boolean }} [options] `lock`: peers cannot open the room again
 */
export declare function end(room: Room, options?: {
    lock?: boolean;
}): Promise<import("./messages.js").Ack>;
