/**
 * Typed events: a listener gets the detail of the event. A listener that throws does not stop the
 * others. Needs no part of a browser.
 *
 * @template {object} Events event name → detail
 */
export declare class TypedEmitter<Events extends object> {
    #private;
    /**
     * Calls `listener` with the detail of every event of this name. What has happened before and still
     * counts is reported at once, before this method returns: see {@link past}.
     *
     * @template {keyof Events & string} Name
     * @param {Name} name
     * @param {(detail: Events[Name]) => void} listener
     * @param {{ once?: boolean, signal?: AbortSignal }} [options]
     * @returns {() => void} removes the listener
     */
    on<Name extends keyof Events & string>(name: Name, listener: (detail: Events[Name]) => void, { once, signal }?: {
        once?: boolean;
        signal?: AbortSignal;
    }): () => void;
    /**
     * Resolves with the detail of the next event of this name.
     *
     * @template {keyof Events & string} Name
     * @param {Name} name
     * @returns {Promise<Events[Name]>}
     */
    next<Name extends keyof Events & string>(name: Name): Promise<Events[Name]>;
    /**
     * The events that a late listener gets, because they still count.
     *
     * @protected
     * @param {string} _name
     * @returns {any[]} their details
     */
    protected past(_name: string): any[];
    /**
     * @protected
     * @template {keyof Events & string} Name
     * @param {Name} name
     * @param {Events[Name]} detail
     */
    protected emit<Name extends keyof Events & string>(name: Name, detail: Events[Name]): void;
}
