/**
 * The chat: messages to all people who are in the call now. They are not stored, so a person who joins
 * later does not see them. Owns the content of the panel `#chat`, and the number on its button.
 */
import { announce } from './announcer.js';
import { onCallMessage, sendCallMessage } from './call-messages.js';
import { cloneTemplate, find, setText } from './dom.js';
import { chatFailedText } from './page-texts.js';
import { linkedText } from './safe-links.js';
import { text } from './texts.js';

/** Three bytes for each character fit into `limits.dataBytes` of a server with its default settings. */
export const MAX_LENGTH = 4_000;

/** From here on, the panel says how many characters are left. */
const WARN_LENGTH = MAX_LENGTH - 200;

/** A longer announcement would hold up a screen reader; the message stands in the panel. */
const ANNOUNCED_LENGTH = 200;

/** Older messages are dropped, so that a long call does not fill the memory. */
const MAX_MESSAGES = 500;

export class ChatPanel {
  #room;
  #nameOf;
  #ownName;
  #unread = 0;
  #panel = /** @type {HTMLElement} */ (find('#chat'));
  #log = find('#chat-log');
  #scroll = find('#chat-scroll');
  #field = /** @type {HTMLTextAreaElement} */ (find('#chat-field'));

  /**
   * @param {import('./client/room.js').Room} room
   * @param {{ nameOf: (person: import('./person-names.js').Person) => string, ownName: () => string, signal: AbortSignal }} options
   */
  constructor(room, { nameOf, ownName, signal }) {
    this.#room = room;
    this.#nameOf = nameOf;
    this.#ownName = ownName;
    this.#field.value = '';
    this.#field.maxLength = MAX_LENGTH;
    onCallMessage(room, 'chat', ({ text: message }, from) => this.#onMessage(message, from), signal);
    find('#chat-form').addEventListener('submit', (event) => this.#onSubmit(event), { signal });
    this.#field.addEventListener('keydown', (event) => this.#onKey(event), { signal });
    this.#field.addEventListener('input', () => this.#onInput(), { signal });
    this.#panel.addEventListener('shown', () => this.#onShown(), { signal });
    signal.addEventListener('abort', () => this.#log.replaceChildren());
    this.update();
  }

  update() {
    const { client } = this.#room;
    const isInside = client.self !== null && client.state !== 'lobby';
    const maySend = client.may('message');
    find('#chat-button').toggleAttribute('hidden', !isInside);
    setText(find('#chat-button span'), this.#unread > 0 ? text('chat.unread', { count: this.#unread }) : text('bar.chat'));
    find('#chat-button').toggleAttribute('data-unread', this.#unread > 0);
    find('#chat-form').toggleAttribute('hidden', isInside && !maySend);
    find('#chat-read-only').toggleAttribute('hidden', !isInside || maySend);
    this.#onInput();
  }

  #onShown() {
    this.#unread = 0;
    this.update();
    this.#scrollToEnd();
    if (!find('#chat-form').hasAttribute('hidden')) this.#field.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // Enter also chooses a word of an input method, as for Japanese. Safari reports that as key 229.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    this.#onSubmit(event);
  }

  #onInput() {
    const { length } = this.#field.value;
    setText(find('#chat-length'), length >= WARN_LENGTH ? text('chat.length', { count: length, limit: MAX_LENGTH }) : '');
  }

  /** @param {Event} event */
  #onSubmit(event) {
    event.preventDefault();
    const message = this.#field.value.trim();
    if (message === '') return;
    this.#field.value = '';
    this.#onInput();
    const row = this.#add(this.#ownName(), message);
    row.classList.add('own');
    void this.#send(row, message);
  }

  /**
   * Without a connection the message waits, and the row says so.
   *
   * @param {Element} row
   * @param {string} message
   */
  async #send(row, message) {
    const [state, button] = [find('.chat-state', row), /** @type {HTMLButtonElement} */ (find('button', row))];
    button.hidden = true;
    setText(state, this.#room.state === 'open' ? '' : text('chat.waiting'));
    try {
      await sendCallMessage(this.#room, 'chat', { text: message });
      setText(state, '');
    } catch (error) {
      const { code = '' } = /** @type {{ code?: string }} */ (error);
      setText(state, chatFailedText(code));
      const isTooLong = code === 'too_large';
      setText(button, text(isTooLong ? 'chat.edit' : 'chat.try_again'));
      button.onclick = () => (isTooLong ? this.#edit(row, message) : void this.#send(row, message));
      button.hidden = false;
      announce(chatFailedText(code));
    }
  }

  /** @param {Element} row @param {string} message */
  #edit(row, message) {
    row.remove();
    this.#field.value = message;
    this.#onInput();
    this.#field.focus();
  }

  /** @param {unknown} message @param {import('./client/messages.js').PeerEntry} from */
  #onMessage(message, from) {
    if (typeof message !== 'string' || message.trim() === '') return;
    const name = this.#nameOf(from);
    const shown = message.trim().slice(0, MAX_LENGTH);
    this.#add(name, shown);
    if (!this.#panel.hidden) return;
    this.#unread += 1;
    this.update();
    // The log is hidden, so a screen reader does not read it.
    announce(text('chat.announced', { name, message: shown.slice(0, ANNOUNCED_LENGTH) }));
  }

  /** @param {string} name @param {string} message */
  #add(name, message) {
    const wasAtEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight < 40;
    const row = cloneTemplate('chat-message');
    setText(find('.chat-name', row), name);
    const now = new Date();
    const time = /** @type {HTMLTimeElement} */ (find('time', row));
    time.dateTime = now.toISOString();
    // By the region of the browser: British and American English write times differently.
    setText(time, now.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
    find('.chat-text', row).replaceChildren(...linkedText(message));
    this.#log.append(row);
    if (this.#log.childElementCount > MAX_MESSAGES) this.#log.firstElementChild?.remove();
    // Who reads older messages stays there.
    if (wasAtEnd) this.#scrollToEnd();
    return row;
  }

  #scrollToEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }
}
