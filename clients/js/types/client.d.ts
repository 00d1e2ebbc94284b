import { SignalingError } from './signaling-error.js';
import { TypedEmitter } from './typed-emitter.js';
export type Joined = import('./messages.js').Joined;
export type Resumed = import('./messages.js').Resumed;
export type PeerEntry = import('./messages.js').PeerEntry;
export type WaitingPeer = import('./messages.js').WaitingPeer;
export type ServerFrame = import('./messages.js').ServerFrame;
export type ErrorFrame = import('./messages.js').ErrorFrame;
export type ClientState = 'idle' | 'connecting' | 'open' | 'lobby' | 'waiting' | 'paused' | 'closed';
export type StateChange = {
    state: ClientState;
    error?: SignalingError;
    retryInMs?: number;
};
export type GetTicket = (server: import('./http.js').Server & {
    token: string;
}) => Promise<string>;
export type ClientOptions = {
    /**
     * called before each join and before a token
     * expires, so a token may be short-lived; a resume needs no token
     */
    getToken: () => Promise<string> | string;
    /**
     * exchanges each token for a ticket, if the server accepts
     * tickets only: `ticketFor`
     */
    getTicket?: GetTicket;
    /**
     * `https://host[/prefix]` of the server; default: the origin of the
     * page
     */
    url?: string | URL;
    /**
     * these two replace those of the runtime, for example in
     * Node before 22
     */
    WebSocket?: typeof WebSocket;
    fetch?: typeof fetch;
    /**
     * how many messages may be pending, sent or not
     */
    queueCapacity?: number;
    /**
     * where the resume
     * handle (never a token) survives a reload, so that the next page takes over this peer; default:
     * nowhere
     */
    handleStorage?: import('./resume-handle.js').HandleStorage | null;
};
export type ClientEvents = {
    /**
     * this client is a new peer: at first, and when a resume was impossible
     */
    joined: Joined;
    /**
     * the same peer; with `recovered: false`, read
     * {@link SignalingClient.peers} and renegotiate
     */
    resumed: Resumed;
    "peer-joined": PeerEntry;
    "peer-updated": PeerEntry;
    "peer-detached": import('./messages.js').PeerAttachment;
    "peer-attached": import('./messages.js').PeerAttachment;
    "peer-left": import('./messages.js').PeerLeft;
    /**
     * this peer waits until a moderator admits
     * it; `joined` or the close follows
     */
    lobby: import('./messages.js').WaitingFrame;
    /**
     * a peer waits in the lobby
     */
    knock: import('./messages.js').WaitingPeer;
    "knock-ended": import('./messages.js').KnockEnded;
    "room-updated": import('./messages.js').RoomInfo;
    /**
     * the permissions
     * of this peer changed
     */
    permissions: {
        role: string;
        permissions: string[];
        muted?: boolean;
    };
    "ice-servers": {
        iceServers: RTCIceServer[];
        icePolicy: RTCIceTransportPolicy;
    };
    /**
     * in milliseconds; the client renews it
     */
    "token-expiring": {
        expiresIn: number;
    };
    "token-refreshed": {
        expiresIn: number;
    };
    message: import('./messages.js').Message;
    /**
     * the first moderator came, or the last one left
     */
    "lobby-updated": import('./messages.js').LobbyUpdated;
    offer: import('./messages.js').DescriptionFrame;
    answer: import('./messages.js').DescriptionFrame;
    pranswer: import('./messages.js').DescriptionFrame;
    rollback: import('./messages.js').RollbackFrame;
    candidate: import('./messages.js').CandidateFrame;
    notice: import('./messages.js').NoticeFrame;
    goaway: import('./messages.js').GoawayFrame;
    /**
     * an error that belongs to no outgoing message and no state
     */
    error: SignalingError;
    state: StateChange;
};
/** @extends {TypedEmitter<ClientEvents>} */
export declare class SignalingClient extends TypedEmitter<ClientEvents> {
    #private;
    /** @type {ClientState} */
    state: ClientState;
    /** @param {ClientOptions} options @throws {SignalingError} `bad_option` or `not_supported` */
    constructor({ url, ...given }: ClientOptions);
    /** The latest `joined` or `resumed`, with later changes; null before the first one. */
    get self(): import("./messages.js").Joined | import("./messages.js").Resumed | null;
    /** The id of this peer. It stays the same while the server lets the client resume. */
    get peerId(): string | null;
    /**
     * The other peers of the room, by peerId; kept while there is no connection.
     *
     * @returns {ReadonlyMap<string, PeerEntry>}
     */
    get peers(): ReadonlyMap<string, PeerEntry>;
    /**
     * The peers in the lobby, by peerId; only with the permission `admit`.
     *
     * @returns {ReadonlyMap<string, WaitingPeer>}
     */
    get waiting(): ReadonlyMap<string, WaitingPeer>;
    /** The public state of the room; null before the first `joined`. */
    get room(): import("./messages.js").RoomInfo | null;
    /** Whether this peer has the permission now. @param {string} permission */
    may(permission: string): boolean;
    /**
     * Connects, and keeps the connection open until {@link leave} or a final refusal.
     *
     * @returns {Promise<Joined>} rejected with a {@link SignalingError} after a final refusal
     */
    connect(): Promise<Joined>;
    /**
     * Sends an application message to one peer, or to all other peers of the room.
     *
     * @param {unknown} data any JSON
     * @param {string} [to] a peerId
     */
    message(data: unknown, to?: string): Promise<import("./messages.js").Ack>;
    /**
     * Changes the public record of this peer; absent members stay the same.
     *
     * @param {{ name?: string, metadata?: Record<string, unknown> }} change
     */
    update(change: {
        name?: string;
        metadata?: Record<string, unknown>;
    }): Promise<import("./messages.js").Ack>;
    /**
     * Sends a frame with the next message id.
     *
     * @param {import('./send-queue.js').ClientFrame} frame
     * @returns {Promise<import('./messages.js').Ack>} rejected with a {@link SignalingError}
     */
    send(frame: import('./send-queue.js').ClientFrame): Promise<import('./messages.js').Ack>;
    /**
     * As {@link send}, but returns the pending message: an answer or a candidate names its offer in `re`.
     *
     * @param {import('./send-queue.js').ClientFrame} frame
     */
    post(frame: import('./send-queue.js').ClientFrame): import("./send-queue.js").PendingMessage;
    /**
     * Sends a frame without a message id, if this client is connected. There is no answer but an
     * `error`, and the frame may be lost.
     *
     * @param {{ type: string, [member: string]: unknown }} frame
     */
    notify(frame: {
        type: string;
        [member: string]: unknown;
    }): void;
    /**
     * Sends a new token of the same user and room; it replaces the current token.
     *
     * @param {string} token
     * @returns {Promise<void>} rejected with a {@link SignalingError}, for example `bad_token`
     */
    refresh(token: string): Promise<void>;
    /**
     * Checks the connection now, and replaces a dead one. A page does so by itself when it wakes up or
     * when its network changes; call it where there are no such events, as in a native app.
     */
    wake(): void;
    /**
     * Closes the socket and rests, without timers, until {@link resume}. Within the resume window of
     * the server this client is the same peer then. Later it is a new one, and the other peers have
     * closed their connections to it. Messages wait in the queue.
     */
    pause(): void;
    /** Ends {@link pause}. */
    resume(): void;
    /**
     * Leaves the room for ever. Synchronous, so that a page can call it on `pagehide`.
     *
     * @param {SignalingError} [reason] the error of the state `closed`
     */
    leave(reason?: SignalingError): void;
}
