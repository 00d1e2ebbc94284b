/** Watches the network to each peer of a room, see network-quality.js. */
import { NetworkQuality, readNetworkSample } from './network-quality.js';

const INTERVAL_MS = 2_000;

/**
 * @param {import('./client/room.js').Room} room
 * @param {() => void} onChange a network became poor, or good again
 * @param {AbortSignal} signal ends the watch
 * @returns {(peerId: string) => boolean} whether the network to this peer is poor
 */
export function watchNetwork(room, onChange, signal) {
  /** By the connection, because a new one has a new network. @type {WeakMap<RTCPeerConnection, NetworkQuality>} */
  const qualities = new WeakMap();
  const timer = setInterval(() => {
    for (const { pc, state } of room.peers.values()) {
      if (state !== 'connected') continue;
      const quality = qualities.get(pc) ?? new NetworkQuality();
      qualities.set(pc, quality);
      // A connection that closes meanwhile has no statistics.
      pc.getStats().then((report) => quality.update(readNetworkSample(report)) && onChange(), () => {});
    }
  }, INTERVAL_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
  return (peerId) => {
    const peer = room.peers.get(peerId);
    return peer !== undefined && (qualities.get(peer.pc)?.isPoor ?? false);
  };
}
