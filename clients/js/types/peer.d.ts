import { LocalTracks } from './local-tracks.js';
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
    /**
     * the tracks on a connection that this peer takes over
     */
    spare?: LocalTracks;
};
export type PeerEvents = {
    state: PeerState;
    /**
     * a new track arrives
     */
    track: RTCTrackEvent;
    /**
     * a track was added to {@link Peer.stream} or
     * removed from it; the detail is {@link Peer.streams}
     */
    tracks: ReadonlyMap<string, MediaStream>;
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
    /** Replaced after the final refusal of a first description. @type {RTCPeerConnection} */
    pc: RTCPeerConnection;
    /** One channel for the application; null until it is open. @type {RTCDataChannel | null} */
    dataChannel: RTCDataChannel | null;
    /** @param {PeerOptions} options */
    constructor({ client, peerId, tracks, rtc, dataChannel, spare }: PeerOptions);
    get peerId(): string;
    /** The name of the peer, or its user if it gave no name. */
    get name(): string;
    /** The public record of the peer. */
    get info(): import("./messages.js").PeerEntry;
    get state(): PeerState;
    /** What is wrong with the relay servers (TURN), if anything: why there may be no connection. */
    get relayProblem(): "full" | "refused" | "unreachable" | undefined;
    /** The remote media: all live tracks. Tracks change, the stream stays the same. */
    get stream(): MediaStream;
    /** Stream id → the live remote tracks, as the other side has grouped them. */
    get streams(): Map<string, MediaStream>;
    /**
     * Sends this track instead of the current one of this name; null stops sending. Without the
     * permission `publish`, the track is sent when this peer gets it. A second video needs `share`.
     *
     * @param {string} name `audio`, `video`, or another name for a further track, such as `screen`
     * @param {MediaStreamTrack | null} track
     * @param {MediaStream} [stream] its id is a key of {@link streams} on the other side; a name keeps
     *   its first stream. Default: the stream of `audio` and `video`
     */
    setTrack(name: string, track: MediaStreamTrack | null, stream?: MediaStream): Promise<void>;
    /** @param {string} [reason] */
    close(reason?: string): void;
}
