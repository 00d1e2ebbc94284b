/**
 * The microphone and the camera of a call element. Owns their tracks: a switched-off microphone is
 * silent, and a switched-off camera is released. Does not know the room.
 */
export type Kind = 'audio' | 'video';
/** @typedef {'audio' | 'video'} Kind */
export declare class CallDevices {
    #private;
    /** What is captured now. @type {MediaStream} */
    stream: MediaStream;
    /** @param {(kind: Kind, track: MediaStreamTrack | null) => void} onTrack another track, or none, is to be sent */
    constructor(onTrack: (kind: Kind, track: MediaStreamTrack | null) => void);
    /** Whether this kind is on. @param {Kind} kind */
    isOn(kind: Kind): boolean;
    /**
     * Asks for both devices at once, and for each alone if that fails.
     *
     * @returns {Promise<unknown>} why one or both are missing
     */
    open(): Promise<unknown>;
    /**
     * Switches a device on or off.
     *
     * @param {Kind} kind
     * @returns {Promise<unknown>} why it stays off
     */
    toggle(kind: Kind): Promise<unknown>;
    /** Releases both. */
    stop(): void;
}
