/**
 * The tracks that this side receives over one connection, kept by their transceivers. Owns the
 * streams that hold them. A track is dead when its transceiver no longer receives.
 */
export declare class RemoteTracks {
    #private;
    /** All live tracks; the stream stays the same. @readonly */
    readonly stream: MediaStream;
    /**
     * @param {RTCPeerConnection} pc
     * @param {{ onTrack: (event: RTCTrackEvent) => void, onChange: () => void, signal: AbortSignal }} options
     *   `onChange`: a track was added or removed
     */
    constructor(pc: RTCPeerConnection, options: {
        onTrack: (event: RTCTrackEvent) => void;
        onChange: () => void;
        signal: AbortSignal;
    });
    /** Receives from this connection only. @param {RTCPeerConnection} pc */
    connect(pc: RTCPeerConnection): void;
    /** Stream id → the stream as the sender has grouped it, with at least one live track. */
    get streams(): Map<string, MediaStream>;
}
