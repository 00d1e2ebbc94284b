/**
 * What the browser tells a page about itself and its network. Nothing happens where there is no
 * page, as in Node. Owns the listeners; acts on nothing.
 */

/**
 * @param {{ onWake: () => void, onHide: () => void }} callbacks `onWake`: a socket may be dead,
 *   because the page was frozen or hidden, or the network has changed; `onHide`: the page closes
 * @returns {() => void} removes the listeners
 */
export function watchPage({ onWake, onHide }) {
  const { document, navigator } = globalThis;
  const abort = new AbortController();
  /** @type {[EventTarget | undefined, string, (event: any) => void][]} */
  const listeners = [
    [globalThis, 'online', onWake],
    [globalThis, 'pageshow', ({ persisted }) => persisted && onWake()],
    [globalThis, 'pagehide', onHide],
    [document, 'visibilitychange', () => document.hidden || onWake()],
    [document, 'resume', onWake],
    [/** @type {any} */ (navigator)?.connection, 'change', onWake],
  ];
  for (const [target, name, listener] of listeners) target?.addEventListener?.(name, listener, { signal: abort.signal });
  return () => abort.abort();
}
