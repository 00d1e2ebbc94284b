/**
 * What the browser tells a page about itself and its network. Nothing happens where there is no
 * page, as in Node. Owns the listeners; acts on nothing.
 *
 * No event tells a page that the machine slept, but its timers are late then.
 */

const TICK_MS = 2_000;

/** Busy pages and the timers of hidden pages are late too; then a probe does no harm. */
const SLEEP_MS = 5_000;

/**
 * @param {() => void} onWake a socket may be dead, because the page was frozen or hidden, or the
 *   network has changed
 * @param {() => void} onHide the page closes
 * @returns {() => void} removes the listeners
 */
export function watchPage(onWake, onHide) {
  const { document, navigator } = globalThis;
  const abort = new AbortController();
  let tickedAt = Date.now();
  const onTick = () => {
    const wasAsleep = Date.now() - tickedAt > SLEEP_MS;
    tickedAt = Date.now();
    if (wasAsleep) onWake();
  };
  const ticker = document && setInterval(onTick, TICK_MS);
  /** @type {[EventTarget | undefined, string, (event: any) => void][]} */
  const listeners = [
    [globalThis, 'online', onWake],
    [globalThis, 'pageshow', ({ persisted }) => persisted && onWake()],
    [globalThis, 'pagehide', onHide],
    [document, 'visibilitychange', () => document.hidden || onWake()],
    [document, 'resume', onWake],
    [/** @type {any} */ (navigator)?.connection, 'change', onWake],
  ];
  // In the capture phase they run before those of the application, which may leave the room.
  const options = { signal: abort.signal, capture: true };
  for (const [target, name, listener] of listeners) target?.addEventListener?.(name, listener, options);
  return () => {
    abort.abort();
    clearInterval(ticker);
  };
}
