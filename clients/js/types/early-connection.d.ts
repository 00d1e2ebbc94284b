/**
 * A connection that has its tracks before its peer is known, because to create both takes a browser
 * several milliseconds. An entry point of its own, `@signalbox/client/early`. Without a description
 * such a connection opens no port, asks no ICE server and sends nothing.
 */
/**
 * Makes a connection now. The result is a value for the option `RTCPeerConnection` of `join`: the first
 * peer gets this connection, the others get new ones.
 *
 * @param {object} [options] the same as those of `join`
 * @param {MediaStream | null} [options.media] its first track of each kind is added
 * @param {RTCConfiguration} [options.rtc]
 * @param {typeof globalThis.RTCPeerConnection} [options.RTCPeerConnection]
 * @returns {(typeof globalThis.RTCPeerConnection & { closeUnused: () => void }) | undefined}
 *   `closeUnused`: when the room has ended; undefined where there is no WebRTC
 */
export declare function earlyConnection({ media, rtc, RTCPeerConnection }?: {
    media?: MediaStream | null;
    rtc?: RTCConfiguration;
    RTCPeerConnection?: typeof globalThis.RTCPeerConnection;
}): (typeof globalThis.RTCPeerConnection & {
    closeUnused: () => void;
}) | undefined;
