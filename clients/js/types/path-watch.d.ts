/**
 * Notices that a connection receives no media any more. ICE needs up to 7 s to notice it, for
 * example after the network of the device has changed. Owns one timer; acts on nothing.
 */
/**
 * @param {RTCPeerConnection} pc
 * @param {(seconds: number) => void} onSilent called after so many intervals without media
 * @returns {() => void} ends the watch
 */
export declare function watchPath(pc: RTCPeerConnection, onSilent: (seconds: number) => void): () => void;
