/** The texts of the call page in the language of the person. */
import { de } from '../texts/call-de.js';
import { en } from '../texts/call-en.js';
import { ja } from '../texts/call-ja.js';
import { PageLanguage } from '../texts/page-language.js';
import { savedSettings } from './saved-settings.js';

/** @typedef {keyof typeof en} TextKey */

/** @type {PageLanguage<TextKey>} */
export const language = new PageLanguage({ en, de, ja }, () => savedSettings.get('language'));

/** @param {TextKey} key @param {import('../texts/page-language.js').Values} [values] */
export function text(key, values) {
  return language.text(key, values);
}

/**
 * Shows a text without placeholders. It follows the choice of another language by itself.
 *
 * @param {Element} element
 * @param {TextKey} key
 */
export function showText(element, key) {
  if (element.getAttribute('data-text') === key) return;
  element.setAttribute('data-text', key);
  element.textContent = text(key);
}
