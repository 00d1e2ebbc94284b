/**
 * What the start page says after a call, or after a refusal: why, and whether to join again. Owns the
 * title of that page, its problem text, and the look of the button that joins.
 */
import { find, setText } from './dom.js';
import { refusalText } from './page-texts.js';
import { showText } from './texts.js';

/** After these codes, another join of the same room is refused, or is not what the others want. */
const FINAL_CODES = ['removed', 'banned', 'denied', 'revoked', 'token_revoked', 'ended', 'room_ended', 'room_disabled'];

/** Error code → what the button says. @type {Record<string, import('./texts.js').TextKey>} */
const BUTTONS = { left: 'start.join_again', replaced: 'start.join_again', ended: 'start.title' };

/**
 * @param {{ code: string }} error why the call has ended or did not start
 * @param {string} room
 * @param {boolean} wasInCall
 */
export function showOutcome(error, room, wasInCall) {
  const hasLeft = error.code === 'left';
  const isFinal = FINAL_CODES.includes(error.code);
  if (wasInCall) showText(find('#start-title'), hasLeft ? 'start.title_left' : 'start.title_out');
  setText(find('#start-error'), hasLeft ? '' : refusalText(error, room));
  showText(find('#join-button'), BUTTONS[error.code] ?? 'start.try_again');
  find('#join-button').className = isFinal ? 'quiet' : 'primary';
  /** @type {HTMLElement} */ (find(hasLeft ? '#join-button' : '#start-error')).focus();
}

/** The person starts anew, for example with another room. */
export function clearOutcome() {
  setText(find('#start-error'), '');
  showText(find('#join-button'), 'start.join');
  find('#join-button').className = 'primary';
}
