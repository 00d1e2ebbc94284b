/**
 * Notices that a connection receives no media any more. ICE needs up to 7 s to notice it, for
 * example after the network of the device has changed. Owns one timer; acts on nothing.
 */

const INTERVAL_MS = 1_000;

/** Shorter pauses occur on good connections. */
const SILENT_INTERVALS = 2;

/**
 * @param {RTCPeerConnection} pc
 * @param {() => void} onSilent
 * @returns {() => void} ends the watch
 */
export function watchPath(pc, onSilent) {
  let packets = 0;
  // Infinite before the first media: without it there is no steady flow that could end.
  let silentIntervals = Infinity;
  const timer = setInterval(async () => {
    let received = 0;
    for (const { type, packetsReceived } of (await pc.getStats()).values()) if (type === 'inbound-rtp') received += packetsReceived;
    silentIntervals = received === packets ? silentIntervals + 1 : 0;
    packets = received;
    if (silentIntervals === SILENT_INTERVALS) onSilent();
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}
