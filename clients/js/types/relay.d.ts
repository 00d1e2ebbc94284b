/**
 * What the relay servers (TURN) of a connection answer: why there may be no connection. An entry
 * point of its own, `@signalbox/client/relay`, because a call works without it. Acts on nothing.
 */
export type RelayProblem = 'refused' | 'full' | 'unreachable';
/**
 * Watches the relay servers of a peer. Call it in the listener of the event `peer`, before they answer.
 *
 * @param {import('./peer.js').Peer} peer
 * @returns {() => RelayProblem | undefined} the most telling problem of the relay servers; undefined
 *   if one of them works, if none was needed yet, or if there is a connection
 */
export declare function watchRelay(peer: import('./peer.js').Peer): () => RelayProblem | undefined;
