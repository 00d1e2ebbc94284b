/**
 * The reactions: a picture on the tile of a person for a few seconds, for all people who are here now.
 * Owns the buttons of the menu `#reactions`, and the pictures on the tiles.
 */
import { announce } from './announcer.js';
import { onCallMessage, sendCallMessage } from './call-messages.js';
import { find } from './dom.js';
import { showNotice } from './notice.js';
import { actionFailedText } from './page-texts.js';
import { RateLimit } from './rate-limit.js';
import { text } from './texts.js';

/** Reaction → its picture. The names are part of the messages. */
const PICTURES = { yes: '👍', applause: '👏', heart: '❤️', laugh: '😂', celebrate: '🎉' };

/** @typedef {keyof typeof PICTURES} Reaction */

const SHOWN_MS = 4_000;

/** The limit of each person; more is neither sent nor shown. */
const LIMIT = /** @type {const} */ ([5, 5_000]);

export class Reactions {
  #room;
  #nameOf;
  #limit = new RateLimit(...LIMIT);
  /** PeerId → the limit of a sender. @type {Map<string, RateLimit>} */
  #limits = new Map();

  /**
   * @param {import('./client/room.js').Room} room
   * @param {{ nameOf: (person: import('./person-names.js').Person) => string, signal: AbortSignal }} options
   */
  constructor(room, { nameOf, signal }) {
    this.#room = room;
    this.#nameOf = nameOf;
    find('#reactions').replaceChildren(...Object.keys(PICTURES).map((name) => this.#makeButton(/** @type {Reaction} */ (name))));
    onCallMessage(room, 'reaction', ({ reaction }, from) => this.#onReaction(reaction, from), signal);
    room.client.on('peer-left', ({ peerId }) => this.#limits.delete(peerId), { signal });
  }

  update() {
    const { client } = this.#room;
    find('#reactions-button').toggleAttribute('hidden', client.self === null || client.state === 'lobby' || !client.may('message'));
    for (const button of find('#reactions').children) button.setAttribute('aria-label', labelOf(/** @type {Reaction} */ (button.getAttribute('data-reaction'))));
  }

  /** @param {Reaction} reaction */
  #makeButton(reaction) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'reaction';
    button.setAttribute('data-reaction', reaction);
    button.textContent = PICTURES[reaction];
    button.addEventListener('click', () => void this.#send(reaction));
    return button;
  }

  /** @param {Reaction} reaction */
  async #send(reaction) {
    if (!this.#limit.allows()) return showNotice(text('reaction.too_many'));
    show(document.querySelector('.tile.self'), PICTURES[reaction], '');
    try {
      await sendCallMessage(this.#room, 'reaction', { reaction });
    } catch (error) {
      showNotice(actionFailedText(/** @type {{ code?: string }} */ (error)));
    }
  }

  /** @param {unknown} reaction @param {import('./client/messages.js').PeerEntry} from */
  #onReaction(reaction, from) {
    if (!isReaction(reaction)) return;
    const limit = this.#limits.get(from.peerId) ?? new RateLimit(...LIMIT);
    this.#limits.set(from.peerId, limit);
    if (!limit.allows()) return;
    const name = this.#nameOf(from);
    show(document.querySelector(`.tile[data-peer-id="${CSS.escape(from.peerId)}"]`), PICTURES[reaction], name);
    announce(text('reaction.from', { name, reaction: labelOf(reaction) }));
  }
}

/** @param {unknown} reaction @returns {reaction is Reaction} */
function isReaction(reaction) {
  return typeof reaction === 'string' && Object.hasOwn(PICTURES, reaction);
}

/** @param {Reaction} reaction */
function labelOf(reaction) {
  return text(`reaction.${reaction}`);
}

/**
 * Shows a reaction on the tile of a person. In a large call a person may have no visible tile: then it
 * stands in the corner, with the name.
 *
 * @param {Element | null} tile
 * @param {string} picture
 * @param {string} name
 */
function show(tile, picture, name) {
  const isVisible = tile !== null && tile.getAttribute('data-place') !== 'beyond' && !tile.hasAttribute('hidden');
  const place = isVisible ? tile : find('#reaction-stream');
  if (isVisible) tile.querySelector('.tile-reaction')?.remove();
  const element = document.createElement('p');
  element.className = 'tile-reaction';
  element.setAttribute('aria-hidden', 'true');
  element.textContent = isVisible ? picture : `${picture} ${name}`;
  place.append(element);
  setTimeout(() => element.remove(), SHOWN_MS);
}
