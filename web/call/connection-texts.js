/**
 * What is known of the connections of a call, in words: for the person, and as a report for the
 * operator. Neither has an address; the report has no names either.
 */
import { browserName } from './browser-name.js';
import { text } from './texts.js';

/** @typedef {import('./client/index.js').Diagnosis} Diagnosis */

/** @param {Diagnosis} diagnosis @param {string} name */
export function connectionText({ state, trouble, pair }, name) {
  if (trouble) return text(`trouble.${trouble}`);
  if (state !== 'connected' || !pair) return text(state === 'connecting' || state === 'reconnecting' ? `peer.${state}` : 'peer.connecting', { name });
  const { relayed, protocol, roundTripMs } = pair;
  const way = text(relayed ? 'help.relayed' : 'help.direct', { protocol: protocol.toUpperCase() });
  return roundTripMs === undefined ? way : `${way} ${text('help.round_trip', { ms: roundTripMs })}`;
}

/**
 * @param {object} call
 * @param {string} call.server the state of the connection to the server
 * @param {Diagnosis[]} call.connections
 * @param {string} userAgent
 * @param {Date} date
 */
export function reportText({ server, connections }, userAgent, date) {
  const lines = [text('report.title'), `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${browserName(userAgent) || text('report.other_browser')}`, text('report.server', { state: server })];
  for (const [index, { state, trouble, pair, candidates, errors }] of connections.entries()) {
    lines.push('', text('report.person', { number: index + 1, state }));
    if (trouble) lines.push(text('report.trouble', { code: trouble }));
    if (pair) lines.push(text('report.way', { local: pair.local, remote: pair.remote, protocol: pair.protocol, ms: pair.roundTripMs ?? '?' }));
    lines.push(text('report.candidates', { local: listOf(candidates.local), remote: listOf(candidates.remote) }));
    if (errors.length > 0) lines.push(text('report.errors', { list: listOf(errors.map(({ kind, protocol, code }) => `${kind} ${protocol} ${code}`)) }));
  }
  return `${lines.join('\n')}\n`;
}

/** @param {string[]} words */
function listOf(words) {
  return words.join(', ') || '–';
}
