export declare class RefusedOffer {
    #private;
    /** @param {() => void} onCheck creates an offer and compares it, see {@link isRefused} */
    constructor(onCheck: () => void);
    get isOpen(): boolean;
    /**
     * The offer was refused.
     *
     * @param {string} sdp
     * @param {boolean} mayPassLater whether the same offer may be accepted later
     */
    refuse(sdp: string, mayPassLater: boolean): void;
    /**
     * The offer was answered. A browser may ask for the same offer again and again, for example because
     * the peer declined the data channel. That would never end.
     *
     * @param {string} sdp
     */
    onAnswered(sdp: string): void;
    /** The server accepted an offer. */
    accept(): void;
    checkLater(): void;
    /** This side has changed. After a refusal only the timer checks, so that no loop is possible. */
    checkNow(): void;
    /** Whether this offer would be refused too. @param {string} sdp */
    isRefused(sdp: string): boolean;
    /** Another offer is made. */
    stop(): void;
}
