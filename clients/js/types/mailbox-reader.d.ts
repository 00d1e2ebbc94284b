/**
 * Reads the mailbox of this peer (docs/PROTOCOL.md, section 3.3): finds gaps and duplicates, and
 * acknowledges entries to the server. Does not interpret the entries.
 */
export declare class MailboxReader {
    #private;
    /** The last entry that was read; a resumed mailbox continues after it. */
    seq: number;
    /** @param {(seq: number) => void} sendReceived sends the frame `received` */
    constructor(sendReceived: (seq: number) => void);
    /**
     * Starts with the mailbox of a new peer.
     *
     * @param {number} seq the number before the first entry
     * @param {number} backlog how many entries the mailbox holds before the server refuses more
     */
    start(seq: number, backlog: number): void;
    /**
     * Continues on a new connection, whose `since` has acknowledged the entries so far, or with a new
     * mailbox of the same peer. The new mailbox may repeat messages of the old one.
     *
     * @param {number} backlog
     * @param {number} [seq] of a new mailbox: the number before its first entry
     */
    resume(backlog: number, seq?: number): void;
    stop(): void;
    /**
     * Reads a frame and decides: `deliver` it, ignore it as a `double`, or drop the connection
     * because of a `gap`.
     *
     * @param {{ type: string, seq?: number, from?: string, id?: number, peerId?: string }} frame
     * @param {number} [characters] the length of the frame
     * @returns {'deliver' | 'double' | 'gap'}
     */
    read({ type, seq, from, id, peerId }: {
        type: string;
        seq?: number;
        from?: string;
        id?: number;
        peerId?: string;
    }, characters?: number): 'deliver' | 'double' | 'gap';
    /** Acknowledges all entries so far. */
    acknowledge(): void;
}
