/**
 * The report as text, and the advice of a run. Both are made of the texts of the page and of numbers
 * alone: they have no address, no token, no candidate and no name of a device.
 */
import { PAGE_TEXTS, STEP_TEXTS, VERDICT_NAMES, OUTCOMES } from './check-texts.js';

/**
 * @typedef {import('./check-texts.js').StepId} StepId
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
  for (const [id, { outcome, values = {} }] of results) {
    const { verdict, user, operator } = OUTCOMES[outcome];
    if (verdict === 'ok' || !user || !operator) continue;
    const advice = { steps: [id], user: user(values), operator: operator(values) };
    const same = found.get(advice.user + advice.operator);
    if (same) same.steps.push(id);
    else found.set(advice.user + advice.operator, advice);
  }
  return [...found.values()];
}

/** @param {StepId[]} steps */
export function namesOf(steps) {
  return steps.map((id) => STEP_TEXTS[id].name).join(', ');
}

/**
 * @param {Results} results
 * @param {string} summary
 * @param {string} userAgent only the name and the version of the browser are used
 * @param {Date} date
 */
export function reportText(results, summary, userAgent, date) {
  const lines = ['Signalbox connection check', `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${browserName(userAgent)}`, summary, ''];
  for (const [id, { outcome, values = {} }] of results) {
    const { verdict, says } = OUTCOMES[outcome];
    lines.push(`${STEP_TEXTS[id].name}: ${VERDICT_NAMES[verdict]}. ${says(values)}`);
  }
  for (const { steps, user, operator } of adviceOf(results)) lines.push('', `${namesOf(steps)}:`, PAGE_TEXTS.user + user, PAGE_TEXTS.operator + operator);
  return `${lines.join('\n')}\n`;
}

/** A complete user agent may name the model of a phone. @param {string} userAgent */
function browserName(userAgent) {
  const [, name, version] = /\b(Firefox|Edg|OPR)\/(\d+)/.exec(userAgent) ?? /\b(Chrome|HeadlessChrome)\/(\d+)/.exec(userAgent) ?? [];
  if (name) return `${{ Edg: 'Edge', OPR: 'Opera', HeadlessChrome: 'Chrome' }[name] ?? name} ${version}`;
  const [, safari] = /\bVersion\/(\d+)[.\d]* .*Safari/.exec(userAgent) ?? [];
  return safari ? `Safari ${safari}` : 'another browser';
}
