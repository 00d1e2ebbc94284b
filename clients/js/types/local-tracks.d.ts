/**
 * The tracks that this side sends over one connection: at most one of each kind, and none without
 * the permission. Owns the senders and their directions. Does not negotiate: the connection asks
 * for a negotiation when a direction changes.
 */
export type TrackConnection = Pick<RTCPeerConnection, 'addTrack' | 'addTransceiver' | 'getTransceivers'>;
export declare class LocalTracks {
    #private;
    /** @param {TrackConnection} pc @param {boolean} permitted whether this side may send */
    constructor(pc: TrackConnection, permitted: boolean);
    /** Adds receivers, so that a side without tracks has sections to offer. */
    addReceivers(): void;
    /** @param {string} kind @param {MediaStreamTrack | null} track */
    setTrack(kind: string, track: MediaStreamTrack | null): Promise<void>;
    /** @param {boolean} permitted whether this side may send from now on */
    setPermitted(permitted: boolean): Promise<void>;
}
