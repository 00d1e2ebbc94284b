export declare class RemoteTracks {
    #private;
    /** The live tracks that belong to no named stream; the stream stays the same. @type {MediaStream} */
    stream: MediaStream;
    /**
     * @param {RTCPeerConnection} pc
     * @param {{ MediaStream: typeof MediaStream, onTrack: (event: RTCTrackEvent) => void,
     *   onChange: () => void, signal: AbortSignal }} options `onChange`: a track was added or removed
     */
    constructor(pc: RTCPeerConnection, options: {
        MediaStream: typeof MediaStream;
        onTrack: (event: RTCTrackEvent) => void;
        onChange: () => void;
        signal: AbortSignal;
    });
    /** Receives from this connection only. @param {RTCPeerConnection} pc */
    connect(pc: RTCPeerConnection): void;
    /** The events of the live tracks. */
    get events(): RTCTrackEvent[];
    /** Stream id or name → the stream as the sender has grouped it, with at least one live track. */
    get streams(): Map<string, MediaStream>;
}
