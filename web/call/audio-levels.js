/** How loud each peer of a room is now, as the receivers of its microphone report it. */

/** A receiver knows only the level of its last packet, and a packet has 20 ms. */
const SAMPLE_MS = 30;

/** Shorter reports see the parts of a word. */
const SAMPLES_PER_REPORT = 7;

/**
 * Reports the highest level of each connected peer since the last report, by peerId.
 *
 * @param {import('./client/room.js').Room} room
 * @param {(levels: Map<string, number>) => void} onLevels levels are from 0 to 1
 * @param {AbortSignal} signal ends the reports
 */
export function watchLevels(room, onLevels, signal) {
  /** @type {Map<string, number>[]} */
  let samples = [];
  const timer = setInterval(() => {
    samples.push(new Map([...room.peers.values()].map((peer) => [peer.peerId, levelOf(peer)])));
    if (samples.length < SAMPLES_PER_REPORT) return;
    const highest = (/** @type {string} */ peerId) => Math.max(...samples.map((sample) => sample.get(peerId) ?? 0));
    onLevels(new Map([...room.peers.keys()].map((peerId) => [peerId, highest(peerId)])));
    samples = [];
  }, SAMPLE_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
}

/** @param {import('./client/peer.js').Peer} peer */
function levelOf({ pc, stream }) {
  const sources = pc.getReceivers().filter(({ track }) => stream.getAudioTracks().includes(track)).flatMap((receiver) => receiver.getSynchronizationSources());
  return Math.max(0, ...sources.map(({ audioLevel }) => audioLevel ?? 0));
}
