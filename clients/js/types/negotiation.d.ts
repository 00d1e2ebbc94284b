export type NegotiationFrame = import('./messages.js').NegotiationFrame;
export type DescriptionFrame = import('./messages.js').DescriptionFrame;
export type CandidateFrame = import('./messages.js').CandidateFrame;
export type PendingMessage = import('./send-queue.js').PendingMessage;
export type ClientFrame = import('./send-queue.js').ClientFrame;
export declare class Negotiation {
    #private;
    /**
     * @param {{
     *   pc: RTCPeerConnection, polite: boolean,
     *   post: (frame: ClientFrame) => PendingMessage, onError: (error: unknown) => void,
     *   replaceConnection: () => RTCPeerConnection, isReachable: () => boolean,
     *   mayUseData: () => boolean,
     * }} options `post` adds the target; `replaceConnection` closes the connection and returns a new
     *   one with the same media; `isReachable`: whether this side and the peer are both connected, as
     *   far as this side knows; `mayUseData`: whether this side may have data channels
     */
    constructor(options: {
        pc: RTCPeerConnection;
        polite: boolean;
        post: (frame: ClientFrame) => PendingMessage;
        onError: (error: unknown) => void;
        replaceConnection: () => RTCPeerConnection;
        isReachable: () => boolean;
        mayUseData: () => boolean;
    });
    /** Handles a frame of the peer after all earlier frames. @param {NegotiationFrame} frame */
    receive(frame: NegotiationFrame): Promise<void>;
    /**
     * Restarts ICE, because frames may be lost and the two sides may have different descriptions;
     * media continues. A pending offer is replaced, and an answer to it is ignored. This needs no
     * rollback (the impolite side never rolls back, see peer.js).
     */
    renegotiate(): Promise<void>;
    /** Goes on with a new connection, which makes an offer. */
    startAgain(): Promise<void>;
    /** The tracks of this side changed, or its permissions: the server may accept another offer now. */
    onChange(): void;
    stop(): void;
}
