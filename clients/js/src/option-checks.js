/**
 * Checks the options of a client and what its runtime offers. Without these checks a missing part
 * would show up later, as an exception while the client connects, and would look like a temporary
 * failure.
 */
import { SignalingError } from './signaling-error.js';

/**
 * Returns the options, with parts of the runtime where they have none.
 *
 * @template {object} Options
 * @template {keyof Options & string} Name
 * @param {Options} options
 * @param {Name[]} names of the parts
 * @returns {Options & { [Part in Name]-?: NonNullable<Options[Part]> }}
 * @throws {SignalingError} `not_supported`
 */
export function withRuntime(options, ...names) {
  /** @type {any} */
  const complete = { ...options };
  for (const name of names) {
    complete[name] ??= /** @type {any} */ (globalThis)[name];
    if (typeof complete[name] !== 'function') throw new SignalingError('not_supported', `There is no ${name} here. Use the option ${name}.`);
  }
  return complete;
}

/**
 * @param {string} field
 * @param {unknown} isGood
 * @throws {SignalingError} `bad_option`
 */
export function checkOption(field, isGood) {
  if (!isGood) throw new SignalingError('bad_option', `The option ${field} is missing or wrong.`, { field });
}

/** Whether this is the address of a server. @param {unknown} url */
export function isServer(url) {
  try {
    return /^(https?|wss?):$/.test(new URL(/** @type {string} */ (url)).protocol);
  } catch {
    return false;
  }
}
