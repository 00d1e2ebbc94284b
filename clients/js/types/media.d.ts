export type Room = import('./room.js').Room;
export type SendLimits = {
    /**
     * for the videos to all peers together, in bits per second
     */
    videoBitrate?: number;
    /**
     * for the sound to each peer, in bits per second
     */
    audioBitrate?: number;
    /**
     * the most lines of a video; more are scaled down
     */
    maxHeight?: number;
    maxFramerate?: number;
    /**
     * names such as `AV1`, `VP9` or `H264`, the best first. A codec that
     * this browser lacks is left out, and the others follow
     */
    codecs?: string[];
};
/**
 * Applies the limits to all connections of a room, now and later. The video budget is shared by the
 * videos that are sent: with three peers, each video gets a third.
 *
 * @param {Room} room
 * @param {SendLimits} limits
 * @returns {{ set: (limits: SendLimits) => void, stop: () => void }} `set` replaces the limits
 * @throws {SignalingError} `bad_option`
 */
export declare function limitSending(room: Room, limits: SendLimits): {
    set: (limits: SendLimits) => void;
    stop: () => void;
};
