/** Compares the clock of this device with the header `Date` of the server. */

/** As far as the `iat` of a token may be ahead of the server. */
const ALLOWED_S = 60;

/** @type {import('./step-runner.js').Step['run']} */
export async function checkClock() {
  const before = deviceTime();
  const response = await fetch(location.pathname, { method: 'HEAD', cache: 'no-store' }).catch(() => null);
  if (!response) return { outcome: 'unreachable' };
  // Whole seconds, which are cut off, so the middle of the second is the best guess.
  const server = Date.parse(response.headers.get('Date') ?? '') + 500;
  if (Number.isNaN(server)) return { outcome: 'no_date' };
  const seconds = Math.round(((before + deviceTime()) / 2 - server) / 1000);
  if (Math.abs(seconds) <= ALLOWED_S) return { outcome: 'clock_right' };
  return { outcome: seconds > 0 ? 'clock_ahead' : 'clock_behind', values: { minutes: Math.round(Math.abs(seconds) / 60) } };
}

/** The wall clock is what this step is about. */
function deviceTime() {
  return new Date().getTime();
}
