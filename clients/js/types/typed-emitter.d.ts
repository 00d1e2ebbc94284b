/**
 * An `EventTarget` with typed events: a listener gets the detail, not the event object. A listener
 * that throws does not stop the others.
 *
 * @template {object} Events event name → detail
 */
export declare class TypedEmitter<Events extends object> extends EventTarget {
    /**
     * Calls `listener` with the detail of every event of this name.
     *
     * @template {keyof Events & string} Name
     * @param {Name} name
     * @param {(detail: Events[Name]) => void} listener
     * @param {{ once?: boolean, signal?: AbortSignal }} [options]
     * @returns {() => void} removes the listener
     */
    on<Name extends keyof Events & string>(name: Name, listener: (detail: Events[Name]) => void, options?: {
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
     * @protected
     * @template {keyof Events & string} Name
     * @param {Name} name
     * @param {Events[Name]} detail
     */
    protected emit<Name extends keyof Events & string>(name: Name, detail: Events[Name]): void;
}
