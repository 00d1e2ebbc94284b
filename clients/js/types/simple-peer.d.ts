export type Peer = import('./peer.js').Peer;
export declare class SimplePeer {
    #private;
    /** Whether this runtime has WebRTC. */
    static WEBRTC_SUPPORT: boolean;
    /** Whether {@link destroy} was called, or the peer has left. */
    destroyed: boolean;
    /**
     * @param {Peer} peer of a room, as its event `peer` gives it
     * @param {{ stream?: MediaStream, streams?: MediaStream[] }} [options] what to send
     */
    constructor(peer: Peer, { stream, streams }?: {
        stream?: MediaStream;
        streams?: MediaStream[];
    });
    /** Whether this side makes the first offer. */
    get initiator(): boolean;
    get connected(): boolean;
    /** How many bytes of the data channel wait to be sent. */
    get bufferSize(): number;
    /** @param {string} event @param {(...details: any[]) => void} listener */
    on(event: string, listener: (...details: any[]) => void): this;
    /** @param {string} event @param {(...details: any[]) => void} listener */
    once(event: string, listener: (...details: any[]) => void): this;
    /** @param {string} event @param {(...details: any[]) => void} listener */
    off(event: string, listener: (...details: any[]) => void): this;
    /** @param {string} event @param {(...details: any[]) => void} listener */
    removeListener(event: string, listener: (...details: any[]) => void): this;
    /** Does nothing, because the room signals; the event `signal` never comes. */
    signal(): void;
    /** @param {string | ArrayBuffer | ArrayBufferView | Blob} data */
    send(data: string | ArrayBuffer | ArrayBufferView | Blob): void;
    /** @param {MediaStream} stream */
    addStream(stream: MediaStream): void;
    /** @param {MediaStream} stream */
    removeStream(stream: MediaStream): void;
    /** @param {MediaStreamTrack} track @param {MediaStream} stream */
    addTrack(track: MediaStreamTrack, stream: MediaStream): void;
    /** @param {MediaStreamTrack} before @param {MediaStreamTrack | null} after @param {MediaStream} stream */
    replaceTrack(before: MediaStreamTrack, after: MediaStreamTrack | null, stream: MediaStream): void;
    /** @param {MediaStreamTrack} track @param {MediaStream} stream */
    removeTrack(track: MediaStreamTrack, stream: MediaStream): void;
    /** @param {(error: unknown, reports?: unknown[]) => void} callback */
    getStats(callback: (error: unknown, reports?: unknown[]) => void): void;
    /** Closes the connection; the peer stays in the room. @param {Error} [error] why */
    destroy(error?: Error): void;
}
