/**
 * Notices that a connection receives no media any more. ICE needs up to 7 s to notice it, for
 * example after the network of the device has changed. Owns one timer; acts on nothing.
 */

const INTERVAL_MS = 1_000;

/** Shorter pauses occur on good connections. */
const SILENT_INTERVALS = [2, 3, 6];

/**
 * @param {RTCPeerConnection} pc
 * @param {(seconds: number) => void} onSilent called after so many intervals without media
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
    if (SILENT_INTERVALS.includes(silentIntervals)) onSilent(silentIntervals);
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}
