/**
 * The resume handle of this peer, and its copy in a storage that survives a reload of the page.
 * Does not interpret the handle.
 *
 * A browser copies sessionStorage when the user duplicates a tab. If the copy held the handle, the
 * new tab would take over the peer of the first tab. So the storage is empty while a page is open:
 * `pagehide` writes the handle, and the next page removes it (or this page on `pageshow`, when the
 * back button restores it). A tab that ends without `pagehide` leaves no handle: the next page
 * joins as a new peer, and the old peer leaves at the end of its resume window.
 */
export type HandleStorage = {
    /**
     * belongs to this tab
     * alone, as sessionStorage does
     */
    storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
    key: string;
};
export declare class ResumeHandle {
    #private;
    /** @param {HandleStorage | null} [storage] null: the handle does not survive a reload */
    constructor(storage?: HandleStorage | null);
    /** Null without a peer to resume. */
    get value(): string | null;
    /** Whether an earlier page left the handle, so that this client takes over its peer. */
    get takesOver(): boolean;
    /** How long the handle is valid after the connection is lost. */
    get windowMs(): number;
    /** Reads and removes the handle of an earlier page, and listens for the end of this page. */
    open(): void;
    /**
     * @param {string | null} value the handle of the latest frame
     * @param {number} [windowMs] the resume window
     */
    renew(value: string | null, windowMs?: number): void;
    /** The handle is no longer valid. */
    forget(): void;
    close(): void;
}
