/**
 * The keys of the call: a key presses the button with this key in `aria-keyshortcuts`. Not while the
 * person types, and not if the person has switched the keys off, because speech input types too.
 */
import { savedSettings } from './saved-settings.js';

export function bindShortcuts() {
  addEventListener('keydown', (event) => {
    const { key, target, ctrlKey, metaKey, altKey, repeat, isComposing } = event;
    if (ctrlKey || metaKey || altKey || repeat || isComposing || savedSettings.get('shortcuts') !== 'on') return;
    if (target instanceof Element && target.closest('input, textarea, select, [contenteditable]')) return;
    if (document.querySelector('dialog[open]')) return;
    const buttons = [...document.querySelectorAll('#call:not([hidden]) button[aria-keyshortcuts]')];
    const button = buttons.find((one) => one.getAttribute('aria-keyshortcuts') === key.toLowerCase());
    if (!(button instanceof HTMLButtonElement) || button.hidden) return;
    event.preventDefault();
    button.click();
  });
}
