/**
 * A connection that is made before its peer is known, because that takes a browser several
 * milliseconds. An entry point of its own, `@signalbox/client/early`. Without a description such a
 * connection opens no port and asks no ICE server.
 */
/**
 * Makes a connection now. The result is a value for the option `RTCPeerConnection` of `join`: the first
 * peer gets this connection, the others get new ones.
 *
 * @param {RTCConfiguration} [rtc] the same as the option `rtc` of `join`
 * @param {typeof globalThis.RTCPeerConnection} [RTCPeerConnection]
 * @returns {(typeof globalThis.RTCPeerConnection & { closeUnused: () => void }) | undefined}
 *   `closeUnused`: when the room has ended; undefined where there is no WebRTC
 */
export declare function earlyConnection(rtc?: RTCConfiguration, RTCPeerConnection?: typeof globalThis.RTCPeerConnection): (typeof globalThis.RTCPeerConnection & {
    closeUnused: () => void;
}) | undefined;
