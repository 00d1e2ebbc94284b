/**
 * A whole call: one {@link SignalingClient}, and one {@link Peer} for each other peer of the room.
 * Owns these connections and the tracks that are sent on them. Does not touch the document.
 */
import { SignalingClient } from './client.js';
import { Peer } from './peer.js';
import { TypedEmitter } from './typed-emitter.js';
export type RoomOptions = {
    room: string;
    /**
     * the name that other peers see
     */
    name?: string;
    /**
     * the user of this peer; default: the server creates one
     */
    user?: string;
    /**
     * the tracks to send from the start
     */
    media?: MediaStream | null;
    /**
     * of the server; default: the origin of the page
     */
    url?: string | URL;
    /**
     * called before each join, and before a token
     * expires; default: requests a token for a guest
     */
    getToken?: () => Promise<string> | string;
    /**
     * instead of `getToken`: a token that the application renews with
     * {@link Room.refresh}
     */
    token?: string;
    /**
     * whether to exchange each token for a ticket before it connects
     */
    ticket?: boolean;
    /**
     * added to the ICE configuration of the server
     */
    rtc?: RTCConfiguration;
    /**
     * where the resume
     * handle survives a reload; default: sessionStorage; null: nowhere
     */
    handleStorage?: import('./resume-handle.js').HandleStorage | null;
};
export type PeerReference = string | {
    readonly peerId: string;
};
export type RoomEvents = {
    /**
     * a new connection; `peer.on('closed')` reports its end
     */
    peer: Peer;
    /**
     * this browser could not create a connection
     * to a peer; the room tries it again with the next ICE servers
     */
    error: {
        peerId: string;
        error: unknown;
    };
};
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
export declare class Room extends TypedEmitter<RoomEvents> {
    #private;
    /** @readonly @type {SignalingClient} */
    readonly client: SignalingClient;
    /** @param {RoomOptions} options @throws {SignalingError} `bad_option` or `not_supported` */
    constructor(options: RoomOptions);
    /** The connections to other peers, by peerId. @returns {ReadonlyMap<string, Peer>} */
    get peers(): ReadonlyMap<string, Peer>;
    /** The peers in the lobby, by peerId; only with the permission `admit`. */
    get waiting(): ReadonlyMap<string, import("./messages.js").WaitingPeer>;
    /**
     * Whether this peer has the permission now.
     *
     * @param {string} permission `publish`, `message`, `moderate`, `admit`, `end`, …
     */
    may(permission: string): boolean;
    /** Resolves when this peer is in the room, after the lobby. Rejects with a `SignalingError`. */
    join(): Promise<import("./messages.js").Joined>;
    /** Leaves the room. Synchronous, so that a page can call it on `pagehide`. */
    leave(): void;
    /**
     * Sends this track to all peers instead of the current one of this name; null stops sending.
     *
     * @param {string} name `audio`, `video`, or another name for a further track, such as `screen`
     * @param {MediaStreamTrack | null} track
     * @param {MediaStream} [stream] its id is a key of {@link Peer.streams} on the other side; a name
     *   keeps its first stream. Default: the stream of `audio` and `video`
     */
    setTrack(name: string, track: MediaStreamTrack | null, stream?: MediaStream): Promise<void>;
    /** Admits a peer from the lobby. Needs `admit`. @param {PeerReference} peer */
    admit(peer: PeerReference): Promise<import("./messages.js").Ack>;
    /** Removes a peer from the lobby. Needs `admit`. @param {PeerReference} peer */
    deny(peer: PeerReference): Promise<import("./messages.js").Ack>;
    /**
     * Removes a peer from the room; it cannot return with the same token. Needs `moderate`.
     *
     * @param {PeerReference} peer
     */
    kick(peer: PeerReference): Promise<import("./messages.js").Ack>;
    /**
     * Removes the permission `publish` from a peer, or restores it. Needs `moderate`.
     *
     * @param {PeerReference} peer
     * @param {boolean} [on] false restores it
     */
    mute(peer: PeerReference, on?: boolean): Promise<import("./messages.js").Ack>;
    /** Locks the room against new peers, or unlocks it. Needs `moderate`. @param {boolean} locked */
    lock(locked: boolean): Promise<import("./messages.js").Ack>;
    /**
     * Ends the room: all peers leave, also this one. Needs `end`.
     *
     * @param {{ lock?: boolean }} [options] `lock`: peers cannot open the room again
     */
    end({ lock }?: {
        lock?: boolean;
    }): Promise<import("./messages.js").Ack>;
    /** Sends a new token to the server. @param {string} token */
    refresh(token: string): Promise<void>;
}
