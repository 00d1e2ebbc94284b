/**
 * Who may come in and who must go: the waiting room, those who knock, the lock, and what a moderator does to others. Owns that part of the
 * document; shows a control only to who may use it, while it is the server that decides.
 */
import { find, say } from './dom.js';
import { PeopleList } from './list.js';
import * as words from './words.js';

/**
 * @typedef {import('/client/room.js').Room} Room
 * @typedef {import('./list.js').Action} Action
 */

export class Doorway {
  #room;
  #off = new AbortController();
  #knocks = new PeopleList(find('#knocks-list'));
  #isMuted = false;

  /** @param {Room} room */
  constructor(room) {
    this.#room = room;
    const { signal } = this.#off;
    const { client } = room;
    for (const name of /** @type {const} */ (['state', 'joined', 'resumed', 'lobby', 'knock', 'knock-ended', 'room-updated', 'permissions'])) {
      client.on(name, () => this.show(), { signal });
    }
    client.on('knock', ({ name, userId }) => say(find('#status'), words.knocks(name || userId)), { signal });
    client.on('notice', ({ message }) => this.#notice(message), { signal });
    client.on('permissions', ({ muted = false }) => this.#standing(muted), { signal });
    for (const name of /** @type {const} */ (['joined', 'resumed'])) client.on(name, () => this.#standing(this.#isMuted), { signal });
    find('#notice button').addEventListener('click', () => this.#notice(''), { signal });
    find('#lock').addEventListener('click', () => this.#do(room.lock(client.room?.locked !== true)), { signal });
    find('#end').addEventListener('click', () => void this.#end(), { signal });
    this.#notice('');
    say(find('#standing'), '');
    this.show();
  }

  end() {
    this.#off.abort();
    /** @type {HTMLDialogElement} */ (find('#ask')).close('no');
    this.#knocks.show([]);
  }

  show() {
    const { client } = this.#room;
    const isInside = client.state !== 'lobby' && client.self !== null;
    find('#waiting').toggleAttribute('hidden', client.state !== 'lobby');
    find('#locked').toggleAttribute('hidden', !(isInside && client.room?.locked));
    this.#showKnocks();
    find('#manage').toggleAttribute('hidden', !isInside || (!client.may('moderate') && !client.may('end')));
    find('#lock').toggleAttribute('hidden', !client.may('moderate'));
    find('#lock').setAttribute('aria-pressed', String(client.room?.locked ?? false));
    say(find('#lock span'), client.room?.locked ? 'Unlock the room' : 'Lock the room');
    find('#end').toggleAttribute('hidden', !client.may('end'));
    for (const button of document.querySelectorAll('.toolbar [data-toggle]')) {
      /** @type {HTMLButtonElement} */ (button).disabled = isInside && !client.may('publish');
    }
  }

  /**
   * What may be done to somebody who is in the room.
   *
   * @param {import('/client/peer.js').Peer} peer
   * @returns {Action[]}
   */
  actionsFor({ peerId, name, info }) {
    if (!this.#room.may('moderate')) return [];
    const isMuted = info.muted ?? false;
    return [
      {
        id: 'mute',
        label: isMuted ? 'Unmute' : 'Mute',
        for: isMuted ? `Let ${name} be heard and seen again` : `Mute ${name} for everyone`,
        act: () => this.#do(this.#room.mute(peerId, !isMuted)),
      },
      { id: 'kick', label: 'Remove', for: `Remove ${name} from the call`, kind: 'stop', act: () => void this.#remove(peerId, name) },
    ];
  }

  #showKnocks() {
    const { waiting } = this.#room;
    const lines = [...waiting.values()].map(({ peerId, name, userId }) => {
      const who = name || userId;
      const admit = { id: 'admit', label: 'Let in', for: `Let ${who} in`, kind: 'admit', act: () => this.#do(this.#room.admit(peerId)) };
      const deny = { id: 'deny', label: 'Turn away', for: `Turn ${who} away`, act: () => this.#do(this.#room.deny(peerId)) };
      return { id: peerId, who, what: '', actions: [admit, deny] };
    });
    const hadFocus = find('#knocks').contains(document.activeElement);
    this.#knocks.show(this.#room.may('admit') ? lines : []);
    find('#knocks').toggleAttribute('hidden', lines.length === 0 || !this.#room.may('admit'));
    // The button is gone with its row.
    if (hadFocus && !find('#knocks').contains(document.activeElement)) {
      /** @type {HTMLElement} */ (document.querySelector('#knocks:not([hidden]) button') ?? find('#room-title')).focus();
    }
  }

  /** @param {string} peerId @param {string} name */
  async #remove(peerId, name) {
    if (await ask(`Remove ${name}?`, `${name} leaves the call at once. Lock the room as well if nobody is to come back.`, 'Remove')) this.#do(this.#room.kick(peerId));
  }

  async #end() {
    if (await ask('End the call for everyone?', 'Everybody leaves the room at once, you too.', 'End for everyone')) this.#do(this.#room.end());
  }

  /** @param {Promise<unknown>} act */
  #do(act) {
    say(find('#call-problem'), '');
    act.catch((error) => this.#room.client.state !== 'closed' && say(find('#call-problem'), words.notDone(error)));
  }

  /** @param {string} message */
  #notice(message) {
    say(find('#notice p'), message);
    find('#notice').toggleAttribute('hidden', message === '');
  }

  /** @param {boolean} muted */
  #standing(muted) {
    this.#isMuted = muted;
    say(find('#standing'), words.standing(this.#room.may('publish'), muted));
  }
}

/** @param {string} title @param {string} text @param {string} yes @returns {Promise<boolean>} */
function ask(title, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (find('#ask'));
  say(find('#ask-title'), title);
  say(find('#ask-text'), text);
  say(find('#ask-yes'), yes);
  dialog.returnValue = 'no';
  /** @type {HTMLElement} */ (find('#ask-no')).onclick = () => dialog.close('no');
  /** @type {HTMLElement} */ (find('#ask-yes')).onclick = () => dialog.close('yes');
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
