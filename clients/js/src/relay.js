/**
 * What the relay servers (TURN) of a connection answer: why there may be no connection. An entry
 * point of its own, `@signalbox/client/relay`, because a call works without it. Acts on nothing.
 */

/**
 * @typedef {'refused' | 'full' | 'unreachable'} RelayProblem `refused`: the relay server does not
 *   accept the credential; `full`: it has no free allocation; `unreachable`: it does not answer
 */

/** The answers of a relay server (RFC 8656, section 19), and 701 of browsers for no answer. */
const FULL = [486, 508];
const UNREACHABLE = 701;

/**
 * Watches the relay servers of a peer. Call it in the listener of the event `peer`, before they answer.
 *
 * @param {import('./peer.js').Peer} peer
 * @returns {() => RelayProblem | undefined} the most telling problem of the relay servers; undefined
 *   if one of them works, if none was needed yet, or if there is a connection
 */
export function watchRelay(peer) {
  /** @type {Set<RelayProblem>} */
  let problems = new Set();
  peer.on('connection', (pc) => {
    const ofThis = (problems = new Set());
    pc.addEventListener('icecandidateerror', (event) => {
      const { errorCode, url } = /** @type {RTCPeerConnectionIceErrorEvent} */ (event);
      // STUN servers are no relays; a call may do without them.
      if (!/^turns?:/.test(url ?? '')) return;
      if (FULL.includes(errorCode)) ofThis.add('full');
      else ofThis.add(errorCode === UNREACHABLE ? 'unreachable' : 'refused');
    });
    pc.addEventListener('icecandidate', ({ candidate }) => candidate?.type === 'relay' && ofThis.clear());
  });
  return () => (peer.state === 'connected' ? undefined : /** @type {const} */ (['refused', 'full', 'unreachable']).find((problem) => problems.has(problem)));
}
