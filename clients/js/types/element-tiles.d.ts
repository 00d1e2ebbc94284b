/**
 * The tiles of a call element: one for this person, and one or two (with a screen) for each peer.
 * Owns these elements. All text of a peer is set as text, never as markup.
 */
export type Peer = import('./peer.js').Peer;
/** @typedef {import('./peer.js').Peer} Peer */
/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} part its names for `::part`
 * @param {Record<string, string>} [attributes]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export declare function makeElement<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, part: string, attributes?: Record<string, string>): HTMLElementTagNameMap[Tag];
export declare class CallTiles {
    #private;
    element: HTMLDivElement;
    /** @param {() => void} onBlocked a tile has sound that this browser plays only after a click */
    constructor(onBlocked: () => void);
    /** Adds the tile of this person, and returns what updates it. @param {MediaStream} stream */
    addSelf(stream: MediaStream): (/** @type {string} */ name: string) => void;
    /**
     * Adds the tiles of a peer, which end with the peer.
     *
     * @param {Peer} peer
     * @param {(name: string) => string} nameScreen
     * @param {AbortSignal} signal ends their updates
     */
    addPeer(peer: Peer, nameScreen: (name: string) => string, signal: AbortSignal): void;
    /** Plays all videos, after a click. */
    play(): void;
    clear(): void;
}
