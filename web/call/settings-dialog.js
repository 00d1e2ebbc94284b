/** The settings of the page: the dialog and what its choices change at once. */
import { find } from './dom.js';
import { savedSettings } from './saved-settings.js';
import { language } from './texts.js';
import { bindTheme } from './theme.js';

/** @typedef {import('./saved-settings.js').Setting} Setting */

export function bindSettings() {
  find('#settings-language').append(...Object.entries(language.names).map(([code, name]) => languageOption(code, name)));
  savedSettings.addEventListener('language', () => dispatchEvent(new Event('languagechange')));
  for (const control of document.querySelectorAll('[data-setting]')) bindControl(/** @type {HTMLSelectElement | HTMLInputElement} */ (control));
  const dialog = /** @type {HTMLDialogElement} */ (find('#settings'));
  for (const button of document.querySelectorAll('[data-opens="settings"]')) button.addEventListener('click', () => dialog.showModal());
  find('#settings-close').addEventListener('click', () => dialog.close());
  bindTheme();
  const mirror = () => document.documentElement.toggleAttribute('data-unmirrored', savedSettings.get('mirror') !== 'on');
  savedSettings.addEventListener('mirror', mirror);
  mirror();
}

/** A language is named in itself. @param {string} code @param {string} name */
function languageOption(code, name) {
  return Object.assign(new Option(name, code), { lang: code });
}

/** A list has the value of the setting; a check box stands for `on` and `off`. @param {HTMLSelectElement | HTMLInputElement} control */
function bindControl(control) {
  const setting = /** @type {Setting} */ (control.getAttribute('data-setting'));
  const box = control instanceof HTMLInputElement ? control : null;
  const show = () => {
    const value = savedSettings.get(setting);
    if (box) box.checked = value === 'on';
    else control.value = value;
  };
  control.addEventListener('change', () => savedSettings.set(setting, box ? (box.checked ? 'on' : 'off') : control.value));
  savedSettings.addEventListener(setting, show);
  show();
}
