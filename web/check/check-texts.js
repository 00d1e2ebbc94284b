/**
 * The texts of the check page in the language of the person. An outcome says what a step found, and,
 * unless that is OK, the next step of the person at this device and that of the operator.
 */
import { savedSettings } from '../call/saved-settings.js';
import { de } from '../texts/check-de.js';
import { en } from '../texts/check-en.js';
import { ja } from '../texts/check-ja.js';
import { PageLanguage } from '../texts/page-language.js';

/** @typedef {keyof typeof en} TextKey */

/** @type {PageLanguage<TextKey>} */
const language = new PageLanguage({ en, de, ja }, () => savedSettings.get('language'));

/** @param {TextKey} key @param {import('./check-outcomes.js').Values} [values] */
export function text(key, values) {
  return language.text(key, values);
}

/**
 * @param {import('./step-runner.js').Result} result
 * @returns {{ user: string, operator: string } | null} null: nothing is to do
 */
export function adviceFor({ outcome, values }) {
  const [user, operator] = [`user.${outcome}`, `operator.${outcome}`];
  return language.has(user) && language.has(operator) ? { user: text(user, values), operator: text(operator, values) } : null;
}

/** @param {Record<import('./check-outcomes.js').Verdict, number>} counts */
export function summaryText(counts) {
  const parts = /** @type {const} */ (['failed', 'warning', 'skipped']).filter((verdict) => counts[verdict] > 0).map((verdict) => text(`page.part_${verdict}`, { count: counts[verdict] }));
  if (parts.length === 0) return text('page.all_well');
  return text(counts.failed > 0 ? 'page.problem' : 'page.no_failure', { parts: parts.join(', ') });
}
