/**
 * Reads the mailbox of this peer (docs/PROTOCOL.md, section 3.3): finds gaps and duplicates, and
 * acknowledges entries to the server. Does not interpret the entries.
 */
export declare class MailboxReader {
    #private;
    /** @param {(seq: number) => void} sendReceived sends the frame `received` */
    constructor(sendReceived: (seq: number) => void);
    /** The last entry that was read; a resumed mailbox continues after it. */
    get seq(): number;
    /**
     * Starts with the mailbox of a new peer.
     *
     * @param {number} seq the number before the first entry
     * @param {number} backlog how many entries the mailbox holds before the server refuses more
     */
    start(seq: number, backlog: number): void;
    /**
     * Continues the same mailbox on a new connection; `since` has acknowledged the entries so far.
     *
     * @param {number} backlog
     */
    resume(backlog: number): void;
    /**
     * Continues with a new mailbox of the same peer. It may repeat messages of the old mailbox.
     *
     * @param {number} seq the number before the first entry
     * @param {number} backlog
     * @param {(peerId: string) => boolean} isKnown whether the mailbox may hold messages of this peer
     */
    restart(seq: number, backlog: number, isKnown: (peerId: string) => boolean): void;
    stop(): void;
    /**
     * Reads a frame and decides: `deliver` it, ignore it as a `double`, or drop the connection
     * because of a `gap`.
     *
     * @param {{ type: string, seq?: number, from?: string, id?: number, peerId?: string }} frame
     * @param {number} [characters] the length of the frame
     * @returns {'deliver' | 'double' | 'gap'}
     */
    read(frame: {
        type: string;
        seq?: number;
        from?: string;
        id?: number;
        peerId?: string;
    }, characters?: number): 'deliver' | 'double' | 'gap';
    /** Acknowledges all entries so far. */
    acknowledge(): void;
}
