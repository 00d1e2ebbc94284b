/** Asks the person whether to do something that affects others. Owns the dialog `#confirm`. */
import { find, setText } from './dom.js';

/** @returns {HTMLDialogElement} */
const dialog = () => find('#confirm');

/**
 * @param {object} question
 * @param {string} question.title
 * @param {string} question.text
 * @param {string} question.yes the label of the button
 * @param {string} [question.option] the label of a checkbox; default: there is none
 * @returns {Promise<{ option: boolean } | null>} null: the person has cancelled; `option`: whether the
 *   checkbox was checked
 */
export function askConfirmation({ title, text, yes, option = '' }) {
  const box = /** @type {HTMLInputElement} */ (find('#confirm-option'));
  setText(find('#confirm-title'), title);
  setText(find('#confirm-text'), text);
  setText(find('#confirm-yes'), yes);
  setText(find('#confirm-option-text'), option);
  box.checked = false;
  /** @type {HTMLElement} */ (box.parentElement).hidden = option === '';
  /** @type {HTMLElement} */ (find('#confirm-no')).onclick = () => dialog().close('no');
  /** @type {HTMLElement} */ (find('#confirm-yes')).onclick = () => dialog().close('yes');
  dialog().returnValue = 'no';
  dialog().showModal();
  return new Promise((resolve) => dialog().addEventListener('close', () => resolve(dialog().returnValue === 'yes' ? { option: box.checked } : null), { once: true }));
}

/** The question is no longer asked. */
export function cancelConfirmation() {
  dialog().close('no');
}
