/**
 * Short news for people who do not see the screen. Owns the live region `#announcements`. Each text is
 * an element of its own, because the same text may come twice.
 */
import { find } from './dom.js';

/** A screen reader has read a text long before, or at least has queued it. */
const KEPT_MS = 10_000;

/** @param {string} text */
export function announce(text) {
  const line = document.createElement('p');
  line.textContent = text;
  find('#announcements').append(line);
  setTimeout(() => line.remove(), KEPT_MS);
}
