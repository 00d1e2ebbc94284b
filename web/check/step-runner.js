/**
 * Runs the steps of a check, each as soon as those that it needs have ended. Knows no step and no
 * page.
 */
import { OUTCOMES } from './check-outcomes.js';

/**
 * @typedef {import('./check-outcomes.js').StepId} StepId
 * @typedef {{ outcome: import('./check-outcomes.js').Outcome, values?: import('./check-outcomes.js').Values }} Result
 *
 * @typedef {object} Context what the steps share
 * @property {URL} url of the server
 * @property {string | null} token of the link
 * @property {(level: number) => void} onLevel of the microphone, 0 to 1
 * @property {Access | null} access what the login gave; null without a login
 * @property {import('./signaling-steps.js').OpenSocket | null} socket
 * @property {Promise<import('./device-steps.js').Devices> | null} devices
 *
 * @typedef {{ token: string, iceServers: RTCIceServer[], icePolicy: RTCIceTransportPolicy }} Access
 *
 * @typedef {object} Step
 * @property {StepId} id
 * @property {StepId[]} needs steps that stand before this one
 * @property {(context: Context) => Promise<Result>} run
 */

/**
 * @param {Step[]} steps
 * @param {Context} context
 * @param {(id: StepId, result: Result | null) => void} onChange null: the step begins
 */
export async function runSteps(steps, context, onChange) {
  /** @type {Map<StepId, Promise<void>>} */
  const ends = new Map();
  for (const { id, needs, run } of steps) ends.set(id, runAfter(needs.map((needed) => ends.get(needed)), id, run));
  await Promise.all(ends.values());

  /** @param {(Promise<void> | undefined)[]} needed @param {StepId} id @param {Step['run']} run */
  async function runAfter(needed, id, run) {
    await Promise.all(needed);
    onChange(id, null);
    onChange(id, await run(context).catch(pageError));
  }
}

/** The text of an error may have an address, so only its name is kept. @param {unknown} error @returns {Result} */
function pageError(error) {
  return { outcome: 'page_error', values: { error: error instanceof Error ? error.name : 'unknown' } };
}

/** @param {Iterable<Result>} results */
export function countVerdicts(results) {
  const counts = { ok: 0, warning: 0, failed: 0, skipped: 0 };
  for (const { outcome } of results) counts[OUTCOMES[outcome]] += 1;
  return counts;
}
