/** One line of news for the person, with a button that closes it. Owns `#notice`. */
import { find, setText } from './dom.js';

/** Shows the text instead of the one before; an empty text hides the line. @param {string} text */
export function showNotice(text) {
  setText(find('#notice p'), text);
  find('#notice').toggleAttribute('hidden', text === '');
}

export function bindNotice() {
  find('#notice button').addEventListener('click', () => showNotice(''));
}
