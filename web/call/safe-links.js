/**
 * Turns the addresses in a text of another person into links. The result consists of text nodes and
 * links, never of markup; a link is http or https, and its page learns nothing about this one.
 */

/** An address ends before punctuation, which belongs to the sentence. */
const ADDRESS = /https?:\/\/[^\s<>"'、。，．」』）]+/gi;
const TRAILING = /[.,;:!?)\]}…]+$/;

/** @param {string} text @returns {(string | { address: string, label: string })[]} */
export function splitLinks(text) {
  /** @type {(string | { address: string, label: string })[]} */
  const parts = [];
  let end = 0;
  for (const { 0: found, index = 0 } of text.matchAll(ADDRESS)) {
    const label = found.replace(TRAILING, '');
    const address = safeAddress(label);
    if (address === null) continue;
    if (index > end) parts.push(text.slice(end, index));
    parts.push({ address, label });
    end = index + label.length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}

/** @param {string} text @returns {Node[]} */
export function linkedText(text) {
  return splitLinks(text).map((part) => {
    if (typeof part === 'string') return document.createTextNode(part);
    const link = document.createElement('a');
    link.href = part.address;
    link.textContent = part.label;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    return link;
  });
}

/** @param {string} text */
function safeAddress(text) {
  try {
    const { protocol, href, username, password } = new URL(text);
    // A user name in front of the host makes an address look like another one.
    return ['http:', 'https:'].includes(protocol) && username === '' && password === '' ? href : null;
  } catch {
    return null;
  }
}
