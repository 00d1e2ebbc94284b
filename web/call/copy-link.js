/** The buttons that copy the link to a call. */
import { find, setText } from './dom.js';
import { showText, text } from './texts.js';

/** How long a button says that it has copied. */
const COPIED_MS = 2_000;

/** @param {Element} button @param {string} link */
export async function copyLink(button, link) {
  const label = find('span', button);
  try {
    await navigator.clipboard.writeText(link);
    setText(find('#status'), text('link.copied'));
    showText(label, 'bar.copied');
    setTimeout(() => showText(label, 'bar.copy_link'), COPIED_MS);
  } catch {
    setText(find('#call-problem'), text('link.not_copied', { link }));
  }
}
