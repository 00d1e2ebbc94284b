export type Peer = import('./peer.js').Peer;
export type Room = import('./room.js').Room;
export type Envelope = {
    signalbox: 'request' | 'answer';
    id: number;
    data?: any;
    error?: {
        code: string;
        message: string;
    };
};
/**
 * Sends a request to a peer, and returns what its function of {@link answerRequests} returns.
 *
 * @param {Peer} peer
 * @param {unknown} data any JSON
 * @param {{ timeoutMs?: number }} [options]
 * @returns {Promise<any>} rejected with a {@link SignalingError}: `timeout`, `peer_left`, `refused`
 *   (there is no function), `handler_failed`, a code that the function throws, or why the request
 *   could not be sent
 */
export declare function request(peer: Peer, data: unknown, { timeoutMs }?: {
    timeoutMs?: number;
}): Promise<any>;
/**
 * Answers the requests of the other peers of a room. Without a function they are refused.
 *
 * @param {Room} room
 * @param {((data: any, peer: Peer) => unknown) | null} answer returns the answer, or a promise of it.
 *   A `SignalingError` that it throws reaches the peer; of any other error the peer learns nothing
 * @returns {() => void} stops the answers
 */
export declare function answerRequests(room: Room, answer: ((data: any, peer: Peer) => unknown) | null): () => void;
