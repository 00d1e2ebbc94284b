/**
 * The report as text, and the advice of a run. Both are made of the texts of the page and of numbers
 * alone: they have no address, no token, no candidate and no name of a device.
 */
import { browserName } from '../call/browser-name.js';
import { OUTCOMES } from './check-outcomes.js';
import { adviceFor, text } from './check-texts.js';

/**
 * @typedef {import('./check-outcomes.js').StepId} StepId
 * @typedef {ReadonlyMap<StepId, import('./step-runner.js').Result>} Results
 * @typedef {{ steps: StepId[], user: string, operator: string }} Advice for the steps with one cause
 */

/**
 * The next steps, in the order of the steps. Steps with the same advice have it once.
 *
 * @param {Results} results
 * @returns {Advice[]}
 */
export function adviceOf(results) {
  /** @type {Map<string, Advice>} */
  const found = new Map();
  for (const [id, result] of results) {
    const texts = adviceFor(result);
    if (!texts) continue;
    const advice = { steps: [id], ...texts };
    const same = found.get(advice.user + advice.operator);
    if (same) same.steps.push(id);
    else found.set(advice.user + advice.operator, advice);
  }
  return [...found.values()];
}

/** @param {StepId[]} steps */
export function namesOf(steps) {
  return steps.map((id) => text(`step.${id}`)).join(', ');
}

/**
 * @param {Results} results
 * @param {string} summary
 * @param {string} userAgent only the name and the version of the browser are used
 * @param {Date} date
 */
export function reportText(results, summary, userAgent, date) {
  const lines = [text('page.report_title'), `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${browserName(userAgent) || text('page.other_browser')}`, summary, ''];
  for (const [id, { outcome, values }] of results) lines.push(`${text(`step.${id}`)}: ${text(`verdict.${OUTCOMES[outcome]}`)}. ${text(`says.${outcome}`, values)}`);
  for (const { steps, user, operator } of adviceOf(results)) lines.push('', `${namesOf(steps)}:`, `${text('page.user')} ${user}`, `${text('page.operator')} ${operator}`);
  return `${lines.join('\n')}\n`;
}
