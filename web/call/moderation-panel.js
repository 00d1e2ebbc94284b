/**
 * The controls of a moderator: the lobby, the lock, and the actions on people; and the notices to
 * this person. Owns that part of the document. Shows a control only with its permission; the server
 * checks each permission again.
 */
import { admit, deny, end, kick, lock, mute } from './client/moderation.js';
import { find, setText } from './dom.js';
import { PeopleList } from './people-list.js';
import { actionFailedText, knockText, permissionText } from './page-texts.js';

/**
 * @typedef {import('./client/room.js').Room} Room
 * @typedef {import('./people-list.js').PersonAction} PersonAction
 */

export class ModerationPanel {
  #room;
  #nameOf;
  #abort = new AbortController();
  #waitingList = new PeopleList(find('#knocks-list'));
  #isMuted = false;

  /** @param {Room} room @param {(person: import('./person-names.js').Person) => string} nameOf */
  constructor(room, nameOf) {
    this.#room = room;
    this.#nameOf = nameOf;
    const { signal } = this.#abort;
    const { client } = room;
    for (const name of /** @type {const} */ (['state', 'joined', 'resumed', 'lobby', 'knock', 'knock-ended', 'room-updated', 'permissions'])) {
      client.on(name, () => this.update(), { signal });
    }
    client.on('knock', (person) => setText(find('#status'), knockText(nameOf(person))), { signal });
    client.on('notice', ({ message }) => this.#showNotice(message), { signal });
    client.on('permissions', ({ muted = false }) => this.#showPermission(muted), { signal });
    for (const name of /** @type {const} */ (['joined', 'resumed'])) client.on(name, () => this.#showPermission(this.#isMuted), { signal });
    find('#notice button').addEventListener('click', () => this.#showNotice(''), { signal });
    find('#lock').addEventListener('click', () => this.#run(lock(room, client.room?.locked !== true)), { signal });
    find('#end').addEventListener('click', () => void this.#endCall(), { signal });
    this.#showNotice('');
    setText(find('#permission'), '');
    this.update();
  }

  close() {
    this.#abort.abort();
    /** @type {HTMLDialogElement} */ (find('#confirm')).close('no');
    this.#waitingList.show([]);
  }

  update() {
    const { client } = this.#room;
    const isInside = client.state !== 'lobby' && client.self !== null;
    find('#waiting').toggleAttribute('hidden', client.state !== 'lobby');
    find('#locked').toggleAttribute('hidden', !(isInside && client.room?.locked));
    this.#showWaiting();
    find('#manage').toggleAttribute('hidden', !isInside || (!client.may('moderate') && !client.may('end')));
    find('#lock').toggleAttribute('hidden', !client.may('moderate'));
    find('#lock').setAttribute('aria-pressed', String(client.room?.locked ?? false));
    setText(find('#lock span'), client.room?.locked ? 'Unlock the room' : 'Lock the room');
    find('#end').toggleAttribute('hidden', !client.may('end'));
    for (const button of document.querySelectorAll('.toolbar [data-toggle]')) {
      /** @type {HTMLButtonElement} */ (button).disabled = isInside && !client.may('publish');
    }
  }

  /**
   * Returns the actions on a person in the room.
   *
   * @param {import('./client/peer.js').Peer} peer
   * @returns {PersonAction[]}
   */
  actionsFor({ peerId, info }) {
    if (!this.#room.may('moderate')) return [];
    const name = this.#nameOf(info);
    const isMuted = info.muted ?? false;
    return [
      {
        id: 'mute',
        label: isMuted ? 'Unmute' : 'Mute',
        description: isMuted ? `Let ${name} be heard and seen again` : `Mute ${name} for everyone`,
        run: () => this.#run(mute(this.#room, peerId, !isMuted)),
      },
      { id: 'kick', label: 'Remove', description: `Remove ${name} from the call`, kind: 'stop', run: () => void this.#remove(peerId, name) },
    ];
  }

  #showWaiting() {
    const { waiting } = this.#room.client;
    const people = [...waiting.values()].map((person) => {
      const { peerId } = person;
      const shownName = this.#nameOf(person);
      const admission = { id: 'admit', label: 'Admit', description: `Admit ${shownName}`, kind: 'admit', run: () => this.#run(admit(this.#room, peerId)) };
      const refusal = { id: 'deny', label: 'Refuse', description: `Refuse ${shownName}`, run: () => this.#run(deny(this.#room, peerId)) };
      return { id: peerId, name: shownName, state: '', actions: [admission, refusal] };
    });
    const hadFocus = find('#knocks').contains(document.activeElement);
    this.#waitingList.show(this.#room.may('admit') ? people : []);
    find('#knocks').toggleAttribute('hidden', people.length === 0 || !this.#room.may('admit'));
    // The row with the focused button was removed.
    if (hadFocus && !find('#knocks').contains(document.activeElement)) {
      /** @type {HTMLElement} */ (document.querySelector('#knocks:not([hidden]) button') ?? find('#room-title')).focus();
    }
  }

  /** @param {string} peerId @param {string} name */
  async #remove(peerId, name) {
    if (await askConfirmation(`Remove ${name}?`, `${name} leaves the call at once. To keep all people out, also lock the room.`, 'Remove')) this.#run(kick(this.#room, peerId));
  }

  async #endCall() {
    if (await askConfirmation('End the call for everyone?', 'All people leave the room at once, and so do you.', 'End for everyone')) this.#run(end(this.#room));
  }

  /** @param {Promise<unknown>} action */
  #run(action) {
    setText(find('#call-problem'), '');
    action.catch((error) => this.#room.client.state !== 'closed' && setText(find('#call-problem'), actionFailedText(error)));
  }

  /** @param {string} message */
  #showNotice(message) {
    setText(find('#notice p'), message);
    find('#notice').toggleAttribute('hidden', message === '');
  }

  /** @param {boolean} muted */
  #showPermission(muted) {
    this.#isMuted = muted;
    setText(find('#permission'), permissionText(this.#room.may('publish'), muted));
  }
}

/**
 * Asks the person for a confirmation.
 *
 * @param {string} title
 * @param {string} text
 * @param {string} yes the label of the button
 * @returns {Promise<boolean>}
 */
function askConfirmation(title, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (find('#confirm'));
  setText(find('#confirm-title'), title);
  setText(find('#confirm-text'), text);
  setText(find('#confirm-yes'), yes);
  dialog.returnValue = 'no';
  /** @type {HTMLElement} */ (find('#confirm-no')).onclick = () => dialog.close('no');
  /** @type {HTMLElement} */ (find('#confirm-yes')).onclick = () => dialog.close('yes');
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
