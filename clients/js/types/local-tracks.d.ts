/** A stream id of a browser is longer, so a stream with such an id has its name from a peer. */
export declare const NAME: RegExp;
/**
 * Names the tracks of a stream: the first of each kind by its kind, the next ones `video-2`, …
 *
 * @param {readonly MediaStreamTrack[]} tracks
 * @returns {[name: string, track: MediaStreamTrack][]}
 */
export declare function nameTracks(tracks: readonly MediaStreamTrack[]): [name: string, track: MediaStreamTrack][];
/**
 * Sets the track of this name and kind; null sets all tracks of this name.
 *
 * @param {Map<string, MediaStreamTrack | null>} tracks `name/kind` → track
 * @param {string} name
 * @param {MediaStreamTrack | null} track
 * @returns {string[]} the keys that were set
 */
export declare function replaceTracks(tracks: Map<string, MediaStreamTrack | null>, name: string, track: MediaStreamTrack | null): string[];
/** @param {string} key `name/kind` */
export declare function nameOf(key: string): string;
export declare class LocalTracks {
    #private;
    /**
     * @param {RTCPeerConnection} pc
     * @param {(permission: string) => boolean} may whether this side has the permission now
     * @param {typeof globalThis.MediaStream} MediaStream
     * @param {Map<string, MediaStreamTrack | null>} [tracks] `name/kind` → the track to send, also while
     *   sending is not permitted; see {@link applyAll}
     */
    constructor(pc: RTCPeerConnection, may: (permission: string) => boolean, MediaStream: typeof globalThis.MediaStream, tracks?: Map<string, MediaStreamTrack | null>);
    /** Uses another connection, see {@link applyAll}. @param {RTCPeerConnection} pc */
    connect(pc: RTCPeerConnection): void;
    /** Adds receivers, so that a side without tracks has sections to offer. */
    addReceivers(): void;
    /**
     * Sends this track instead of the current one of this name and kind; null stops sending the name.
     *
     * @param {string} name
     * @param {MediaStreamTrack | null} track
     */
    setTrack(name: string, track: MediaStreamTrack | null): Promise<void[]>;
    /** Sends all tracks that the permissions allow. */
    applyAll(): Promise<void[]>;
    /**
     * Puts the names into a description of this side, in the place of the ids of their streams.
     *
     * @param {string} sdp
     */
    nameStreams(sdp: string): string;
}
