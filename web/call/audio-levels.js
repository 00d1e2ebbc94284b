/** How loud each peer of a room is now, as the receivers of its microphone report it. */

/** Shorter intervals see the parts of a word. */
const INTERVAL_MS = 200;

/**
 * Reports the levels of all connected peers, by their ids.
 *
 * @param {import('./client/room.js').Room} room
 * @param {(levels: Map<string, number>) => void} onLevels levels are from 0 to 1
 * @param {AbortSignal} signal ends the reports
 */
export function watchLevels(room, onLevels, signal) {
  const timer = setInterval(() => onLevels(new Map([...room.peers.values()].map((peer) => [peer.peerId, levelOf(peer)]))), INTERVAL_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
}

/** @param {import('./client/peer.js').Peer} peer */
function levelOf({ pc, stream }) {
  const sources = pc.getReceivers().filter(({ track }) => stream.getAudioTracks().includes(track)).flatMap((receiver) => receiver.getSynchronizationSources());
  return Math.max(0, ...sources.map(({ audioLevel }) => audioLevel ?? 0));
}
