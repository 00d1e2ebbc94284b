export declare class RefusedOffer {
    #private;
    isOpen: boolean;
    /** @param {() => void} onCheck creates an offer and compares it, see {@link isRefused} */
    constructor(onCheck: () => void);
    /**
     * The offer was refused, or changed nothing.
     *
     * @param {string} sdp
     * @param {boolean} [mayPassLater] whether the same offer may be accepted later
     */
    open(sdp: string, mayPassLater?: boolean): void;
    /**
     * The offer was answered. A browser may ask for the same offer again and again, for example because
     * the peer declined the data channel. That would never end.
     *
     * @param {string} sdp
     */
    onAnswered(sdp: string): void;
    checkLater(): void;
    /** Whether this offer would be refused too. @param {string} sdp */
    isRefused(sdp: string): boolean;
    /** Another offer is made. */
    stop(): void;
}
