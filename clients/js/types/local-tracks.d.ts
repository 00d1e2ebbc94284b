/**
 * The tracks that this side sends over one connection, each by its name and on its own transceiver:
 * `audio` and `video`, and any other name, such as `screen`. Sends only what the permissions allow.
 * Owns the senders and their directions. Does not negotiate: the connection asks for a negotiation
 * when a direction changes.
 */
export type LocalTrack = {
    track: MediaStreamTrack | null;
    /**
     * tells the other side which tracks belong together
     */
    stream: MediaStream;
};
/**
 * Names the tracks of a stream: the first of each kind by its kind, the others by their ids.
 *
 * @param {readonly MediaStreamTrack[]} tracks
 * @returns {[name: string, track: MediaStreamTrack][]}
 */
export declare function nameTracks(tracks: readonly MediaStreamTrack[]): [name: string, track: MediaStreamTrack][];
export declare class LocalTracks {
    #private;
    /** The connection, also after {@link connect}. @type {RTCPeerConnection} */
    pc: RTCPeerConnection;
    /**
     * @param {RTCPeerConnection} pc
     * @param {(permission: string) => boolean} may whether this side has the permission now
     */
    constructor(pc: RTCPeerConnection, may: (permission: string) => boolean);
    /** Uses another connection, see {@link applyAll}. @param {RTCPeerConnection} pc */
    connect(pc: RTCPeerConnection): void;
    /** Adds receivers, so that a side without tracks has sections to offer. */
    addReceivers(): void;
    /**
     * Sends this track instead of the current one of this name; null stops sending. A track that ends
     * is no longer sent.
     *
     * @param {string} name
     * @param {MediaStreamTrack | null} track
     * @param {MediaStream} [stream] default: the stream of microphone and camera. A name keeps its first
     *   stream, because Chromium may ignore `setStreams`
     */
    setTrack(name: string, track: MediaStreamTrack | null, stream?: MediaStream): Promise<void>;
    /** Sends all tracks that the permissions allow. */
    applyAll(): Promise<void[]>;
}
