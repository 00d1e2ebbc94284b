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
export function earlyConnection(rtc, RTCPeerConnection = globalThis.RTCPeerConnection) {
  if (typeof RTCPeerConnection !== 'function') return undefined;
  /** @type {RTCPeerConnection | undefined} */
  let early = createConnection(rtc, RTCPeerConnection);
  /** @param {RTCConfiguration} [configuration] */
  function Connection(configuration) {
    const pc = early;
    early = undefined;
    if (!pc) return new RTCPeerConnection(configuration);
    try {
      pc.setConfiguration(configuration);
      return pc;
    } catch (error) {
      pc.close();
      throw error;
    }
  }
  const closeUnused = () => (early = void early?.close());
  return /** @type {any} */ (Object.assign(Connection, { closeUnused }));
}

/** @param {RTCConfiguration | undefined} rtc @param {typeof globalThis.RTCPeerConnection} RTCPeerConnection */
function createConnection(rtc, RTCPeerConnection) {
  try {
    const pc = new RTCPeerConnection(rtc);
    // Such a browser could not get the ICE servers of the room later.
    return typeof pc.setConfiguration === 'function' ? pc : void pc.close();
  } catch {
    return undefined; // the connection to a peer reports it
  }
}
