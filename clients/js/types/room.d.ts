/**
 * A whole call: one {@link SignalingClient}, and one {@link Peer} for each other peer of the room.
 * Owns these connections and the tracks that are sent on them. Does not touch the document.
 */
import { SignalingClient } from './client.js';
import { SignalingError } from './signaling-error.js';
import { Peer } from './peer.js';
import { TypedEmitter } from './typed-emitter.js';
export type StateChange = import('./client.js').StateChange;
export type GetTicket = import('./client.js').GetTicket;
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
     * leaves the room, also while it waits to be admitted
     */
    signal?: AbortSignal;
    /**
     * called with each state, also before
     * this peer is in the room: `lobby` means that a moderator must admit it
     */
    onState?: (change: StateChange, room: Room) => void;
    /**
     * exchanges each token for a ticket, if the server accepts
     * tickets only: `ticketFor`
     */
    getTicket?: GetTicket;
    /**
     * added to the ICE configuration of the server
     */
    rtc?: RTCConfiguration;
    /**
     * where the resume
     * handle survives a reload; default: sessionStorage; null: nowhere
     */
    handleStorage?: import('./resume-handle.js').HandleStorage | null;
    /**
     * these four replace those of the runtime,
     * for React Native and Node
     */
    RTCPeerConnection?: typeof RTCPeerConnection;
    MediaStream?: typeof MediaStream;
    WebSocket?: typeof WebSocket;
    fetch?: typeof fetch;
};
export type RoomEvents = {
    /**
     * a new connection; `peer.on('closed')` reports its end. A late listener gets
     * the peers that are there
     */
    peer: Peer;
    /**
     * a late listener gets the current one
     */
    state: StateChange;
    /**
     * without `from`: sent by the application
     */
    message: {
        data: any;
        peer?: Peer;
        from?: string;
    };
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
 * Joins a room. While this page is in the room, or joins it, the same server, room, user and name
 * give the same `Room`.
 *
 * @param {RoomOptions} options
 * @returns {Promise<Room>} resolves when this peer is in the room, after the lobby; rejected with a
 *   {@link SignalingError}
 */
export declare function join(options: RoomOptions): Promise<Room>;
/** Made by {@link join}. @extends {TypedEmitter<RoomEvents>} */
export declare class Room extends TypedEmitter<RoomEvents> {
    #private;
    /** @readonly @type {SignalingClient} */
    readonly client: SignalingClient;
    /** Why this peer is no longer in the room, as soon as that is so. @readonly @type {Promise<SignalingError>} */
    readonly left: Promise<SignalingError>;
    /** The connections to other peers, by peerId. @readonly @type {Map<string, Peer>} */
    readonly peers: Map<string, Peer>;
    /** @param {RoomOptions} given @param {string} key of this room in the page @throws {SignalingError} `bad_option` or `not_supported` */
    constructor(given: RoomOptions, key: string);
    get state(): import("./client.js").ClientState;
    /**
     * Whether this peer has the permission now.
     *
     * @param {string} permission `publish`, `message`, `moderate`, `admit`, `end`, …
     */
    may(permission: string): boolean;
    /**
     * One call of {@link join}, which calls it. The room is left when all callers have aborted.
     *
     * @param {RoomOptions} options
     * @returns {Promise<Room>}
     */
    enter({ signal, onState }: RoomOptions): Promise<Room>;
    /** Leaves the room. Synchronous, so that a page can call it on `pagehide`. */
    leave(): void;
    /** Rests the signaling and keeps the connections to other peers, see {@link SignalingClient.pause}. */
    pause(): void;
    /** Ends {@link pause}. */
    resume(): void;
    /** Sends a message to all other peers. @param {unknown} data any JSON */
    send(data: unknown): Promise<import("./messages.js").Ack>;
    /**
     * Sends this track to all peers instead of the current one of this name and kind; null stops sending
     * all tracks of this name.
     *
     * @param {string} name `audio`, `video`, or another name for further tracks, such as `screen`: the
     *   other side gets them as {@link Peer.streams}
     * @param {MediaStreamTrack | null} track
     */
    setTrack(name: string, track: MediaStreamTrack | null): Promise<void>;
    /** @protected @override @param {string} name */
    protected past(name: string): Peer[] | import("./client.js").StateChange[];
}
