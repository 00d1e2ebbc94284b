/** What a person sees who is alone in a call: the link, to copy, to share, and as a QR code. */
import { copyLink } from './copy-link.js';
import { find } from './dom.js';
import { encodeQr } from './qr-code.js';

/** The white modules around a QR code that the standard asks for. */
const BORDER = 4;

export class AloneCard {
  #card = find('#alone');

  /** @param {{ link: string, signal: AbortSignal }} options */
  constructor({ link, signal }) {
    /** @type {HTMLInputElement} */
    const field = find('#alone-link');
    field.value = link;
    field.addEventListener('focus', () => field.select(), { signal });
    find('#alone-copy').addEventListener('click', ({ currentTarget }) => void copyLink(/** @type {Element} */ (currentTarget), link), { signal });
    const share = find('#alone-share');
    share.toggleAttribute('hidden', !('share' in navigator));
    // The person may close the list of programs without a choice.
    share.addEventListener('click', () => void navigator?.share({ url: link }).catch(() => {}), { signal });
    drawCode(find('#alone-code'), encodeQr(link));
    signal.addEventListener('abort', () => this.show(false));
  }

  /** @param {boolean} isAlone */
  show(isAlone) {
    this.#card.toggleAttribute('hidden', !isAlone);
    // The card says it, so that the status line need not.
    document.body.toggleAttribute('data-alone', isAlone);
  }
}

/** Draws one path of all dark modules. @param {Element} svg @param {boolean[][] | null} rows null: the link is too long */
function drawCode(svg, rows) {
  svg.toggleAttribute('hidden', rows === null);
  if (!rows) return;
  const size = rows.length + 2 * BORDER;
  const squares = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + BORDER} ${y + BORDER}h1v1h-1z` : '')));
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', squares.join(''));
  svg.setAttribute('viewBox', `0 0 ${size} ${size}`);
  svg.setAttribute('shape-rendering', 'crispEdges');
  svg.replaceChildren(path);
}
