/**
 * Notices that a connection receives no media any more. ICE needs up to 7 s to notice it, for
 * example after the network of the device has changed. Owns one timer; acts on nothing.
 */
export declare class PathWatch {
    #private;
    /** @param {RTCPeerConnection} pc @param {() => void} onSilent */
    constructor(pc: RTCPeerConnection, onSilent: () => void);
    start(): void;
    stop(): void;
}
