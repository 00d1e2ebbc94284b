import { TypedEmitter } from './typed-emitter.js';
export type SignalingClient = import('./client.js').SignalingClient;
export type PeerEntry = import('./messages.js').PeerEntry;
export type PeerState = 'connecting' | 'connected' | 'reconnecting' | 'failed' | 'closed';
export type PeerOptions = {
    client: SignalingClient;
    /**
     * a peer of the room
     */
    peerId: string;
    /**
     * `name/kind` → a track to send from the
     * start, such as `video/video`
     */
    tracks?: Map<string, MediaStreamTrack | null>;
    /**
     * added to the ICE configuration of the server
     */
    rtc?: RTCConfiguration;
    /**
     * whether the impolite side opens {@link Peer.dataChannel}; it
     * also connects two peers that send no media
     */
    dataChannel?: boolean;
    /**
     * these two replace those of the runtime
     */
    RTCPeerConnection?: typeof RTCPeerConnection;
    MediaStream?: typeof MediaStream;
};
export type Trouble = import('./connection-report.js').Trouble;
export type Diagnosis = import('./connection-report.js').Diagnosis;
export type PeerEvents = {
    state: PeerState;
    /**
     * why there is no connection, four seconds after its start or its loss;
     * again when the code changes, and with the code null when the peers are connected
     */
    trouble: Trouble;
    /**
     * {@link Peer.pc} is this one now
     */
    connection: RTCPeerConnection;
    /**
     * a new track arrives
     */
    track: RTCTrackEvent;
    /**
     * {@link Peer.dataChannel} is open
     */
    datachannel: RTCDataChannel;
    /**
     * a track was added or removed; the detail is
     * {@link Peer.streams}
     */
    tracks: ReadonlyMap<string, MediaStream>;
    /**
     * data that the peer sent with {@link Peer.send} or `room.send`
     */
    message: any;
    /**
     * a request or an answer, for requests.js
     */
    exchange: import('./requests.js').Envelope;
    /**
     * the peer changed its name or metadata, or was detached or attached
     */
    info: PeerEntry;
    error: unknown;
    /**
     * the reason
     */
    closed: string;
};
/** @extends {TypedEmitter<PeerEvents>} */
export declare class Peer extends TypedEmitter<PeerEvents> {
    #private;
    /** @readonly @type {string} */
    readonly peerId: string;
    /** See the event `connection`. @type {RTCPeerConnection} */
    pc: RTCPeerConnection;
    /** One channel for the application; null until it is open. @type {RTCDataChannel | null} */
    dataChannel: RTCDataChannel | null;
    /** @type {PeerState} */
    state: PeerState;
    /** See the event `trouble`. @type {Trouble} */
    trouble: Trouble;
    /** The public record of the peer. @type {PeerEntry} */
    info: PeerEntry;
    /** @param {PeerOptions} given */
    constructor(given: PeerOptions);
    /** The name of the peer, or its user if it gave no name. */
    get name(): string;
    /**
     * The microphone and camera of the peer: all live tracks that belong to no named stream. Tracks
     * change, the stream stays the same.
     */
    get stream(): MediaStream;
    /** Name or stream id → the live tracks that the other side sends together, such as `screen`. */
    get streams(): Map<string, MediaStream>;
    /** Sends a message. @param {unknown} data any JSON */
    send(data: unknown): Promise<import("./messages.js").Ack>;
    /**
     * Sends this track instead of the current one of this name and kind; null stops sending all tracks
     * of this name. Without the permission `publish`, the track is sent when this peer gets it. A second
     * video needs `share`.
     *
     * @param {string} name `audio`, `video`, or another name for further tracks, such as `screen`: the
     *   other side gets them as {@link streams}
     * @param {MediaStreamTrack | null} track
     */
    setTrack(name: string, track: MediaStreamTrack | null): Promise<void>;
    /**
     * What this connection uses, or why there is none: the selected pair, the types of the candidates,
     * the errors of the ICE servers, and the round trip. Without addresses.
     *
     * @returns {Promise<Diagnosis>}
     */
    diagnose(): Promise<Diagnosis>;
    /** @param {string} [reason] */
    close(reason?: string): void;
    /** @protected @override @param {string} name */
    protected past(name: string): unknown[];
}
