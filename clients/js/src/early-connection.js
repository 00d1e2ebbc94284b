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
export function earlyConnection({ media, rtc, RTCPeerConnection = globalThis.RTCPeerConnection } = {}) {
  if (typeof RTCPeerConnection !== 'function') return undefined;
  /** @type {RTCPeerConnection | undefined} */
  let early = createConnection(rtc, RTCPeerConnection);
  let needsOffer = false;
  for (const kind of /** @type {const} */ (['audio', 'video'])) {
    const track = media?.getTracks().find((one) => one.kind === kind && one.readyState !== 'ended');
    if (media && track) early?.addTrack(track, media);
  }
  early?.addEventListener('negotiationneeded', () => (needsOffer = true), { once: true });
  /** @param {RTCConfiguration} [configuration] */
  function Connection(configuration) {
    const pc = early;
    early = undefined;
    if (!pc) return new RTCPeerConnection(configuration);
    try {
      pc.setConfiguration(configuration);
    } catch (error) {
      pc.close();
      throw error;
    }
    // The browser does not repeat an event that had no listener yet.
    if (needsOffer) queueMicrotask(() => pc.dispatchEvent(new Event('negotiationneeded')));
    return pc;
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
