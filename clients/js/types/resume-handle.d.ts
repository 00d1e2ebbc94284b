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
    /** Null without a peer to resume. @type {string | null} */
    value: string | null;
    /** Whether an earlier page left the handle, so that this client takes over its peer. */
    takesOver: boolean;
    /** How long the handle is valid after the connection is lost. */
    windowMs: number;
    /** @param {HandleStorage | null} [storage] null: the handle does not survive a reload */
    constructor(storage?: HandleStorage | null);
    /** Reads and removes the handle of an earlier page. */
    open(): void;
    /**
     * @param {unknown} value the handle of the latest frame; null: the handle is no longer valid
     * @param {number} [windowMs] the resume window
     */
    renew(value: unknown, windowMs?: number): void;
    /** The page closes. */
    store(): void;
    /** The page is open again. */
    remove(): void;
}
