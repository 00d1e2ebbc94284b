/** The texts, which the attributes `label-join`, … replace. */
declare const LABELS: {
    join: string;
    leave: string;
    microphone: string;
    camera: string;
    sound: string;
    call: string;
    you: string;
    screen: string;
    connecting: string;
    lobby: string;
    waiting: string;
};
export type LabelName = keyof typeof LABELS;
/** A server that renders the page imports this module too, and has no elements. */
declare const Base: typeof HTMLElement;
/**
 * Events, with `detail`: `joined` (`room`), `peer` (`peer`), `left` (`error`: why), and `problem`
 * (`error`). A `problem` whose default is prevented is not shown.
 */
export declare class SignalboxCall extends Base {
    #private;
    static observedAttributes: string[];
    /**
     * Returns a token of your backend, as the option of `join`. It may be set before the element is
     * defined.
     *
     * @type {(() => Promise<string> | string) | undefined}
     */
    getToken: (() => Promise<string> | string) | undefined;
    /** The room while this element is in it. @type {import('./room.js').Room | null} */
    currentRoom: import('./room.js').Room | null;
    constructor();
    /** Joins the room. */
    join(): void;
    /** Leaves the room. */
    leave(): void;
    /** @protected */
    protected connectedCallback(): void;
    /** @protected */
    protected disconnectedCallback(): void;
    /** @protected @param {string} name @param {string | null} _before @param {string | null} value */
    protected attributeChangedCallback(name: string, _before: string | null, value: string | null): void;
}
export {};
