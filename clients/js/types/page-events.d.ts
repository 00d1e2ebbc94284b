/**
 * What the browser tells a page about itself and its network. Nothing happens where there is no
 * page, as in Node. Owns the listeners; acts on nothing.
 *
 * No event tells a page that the machine slept, but its timers are late then.
 */
/**
 * @param {() => void} onWake a socket may be dead, because the page was frozen or hidden, or the
 *   network has changed
 * @param {() => void} onHide the page closes
 * @returns {() => void} removes the listeners
 */
export declare function watchPage(onWake: () => void, onHide: () => void): () => void;
