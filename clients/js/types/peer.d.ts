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
     * the tracks to send from the start
     */
    tracks?: MediaStreamTrack[];
    /**
     * added to the ICE configuration of the server
     */
    rtc?: RTCConfiguration;
    /**
     * whether the impolite side opens {@link Peer.dataChannel}; it
     * also connects two peers that send no media
     */
    dataChannel?: boolean;
};
export type PeerEvents = {
    state: PeerState;
    track: RTCTrackEvent;
    /**
     * {@link Peer.dataChannel} is open
     */
    datachannel: RTCDataChannel;
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
    /** The remote media: tracks change, the stream stays the same. @readonly */
    readonly stream: MediaStream;
    /** @readonly @type {RTCPeerConnection} */
    readonly pc: RTCPeerConnection;
    /** One channel for the application; null until it is open. @type {RTCDataChannel | null} */
    dataChannel: RTCDataChannel | null;
    /** @param {PeerOptions} options */
    constructor({ client, peerId, tracks, rtc, dataChannel }: PeerOptions);
    get peerId(): string;
    /** The name of the peer, or its user if it gave no name. */
    get name(): string;
    /** The public record of the peer. */
    get info(): import("./messages.js").PeerEntry;
    get state(): PeerState;
    /**
     * Sends this track instead of the current one of its kind; null stops sending. Without the
     * permission `publish`, the track is sent when this peer gets it.
     *
     * @param {string} kind `audio` or `video`
     * @param {MediaStreamTrack | null} track
     */
    setTrack(kind: string, track: MediaStreamTrack | null): Promise<void>;
    /** @param {string} [reason] */
    close(reason?: string): void;
}
