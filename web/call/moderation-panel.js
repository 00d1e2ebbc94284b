/**
 * The controls of a moderator: the lobby, the lock, the end, and the actions on people. Owns that part
 * of the document. Shows a control only with its permission; the server checks each permission again.
 */
import { admit, deny, end, kick, lock, mute, setLobby } from './client/moderation.js';
import { announce } from './announcer.js';
import { askConfirmation, cancelConfirmation } from './confirmation.js';
import { find, setText } from './dom.js';
import { showNotice } from './notice.js';
import { actionFailedText, permissionText } from './page-texts.js';
import { PeopleList } from './people-list.js';
import { showText, text } from './texts.js';

/**
 * @typedef {import('./client/room.js').Room} Room
 * @typedef {import('./people-list.js').PersonAction} PersonAction
 */

export class ModerationPanel {
  #room;
  #hands;
  #nameOf;
  #waitingList = new PeopleList(find('#knocks-list'));
  /** In the lobby: whether a moderator is in the call. An older server does not say it. */
  #isHostHere = true;
  /** Whether a moderator has stopped the microphone and camera of this person. */
  #isStopped = false;

  /**
   * @param {object} options
   * @param {Room} options.room
   * @param {import('./raised-hands.js').RaisedHands} options.hands
   * @param {(person: import('./person-names.js').Person) => string} options.nameOf
   * @param {AbortSignal} options.signal the end of the call
   */
  constructor({ room, hands, nameOf, signal }) {
    this.#room = room;
    this.#hands = hands;
    this.#nameOf = nameOf;
    const { client } = room;
    for (const name of /** @type {const} */ (['state', 'joined', 'resumed', 'knock', 'knock-ended', 'room-updated', 'permissions'])) {
      client.on(name, () => this.update(), { signal });
    }
    client.on('knock', (person) => announce(text('lobby.knock', { name: nameOf(person) })), { signal });
    for (const name of /** @type {const} */ (['lobby', 'lobby-updated'])) client.on(name, ({ moderatorPresent = true }) => this.#onHost(moderatorPresent), { signal });
    client.on('notice', ({ message }) => showNotice(message), { signal });
    client.on('permissions', ({ muted = false }) => this.#onPermissions(muted), { signal });
    find('#lock').addEventListener('click', () => this.#run(lock(room, client.room?.locked !== true)), { signal });
    find('#lobby-switch').addEventListener('click', () => this.#run(setLobby(room, client.room?.lobby !== true)), { signal });
    find('#end').addEventListener('click', () => void this.#endCall(), { signal });
    signal.addEventListener('abort', () => this.#onEnd());
    showNotice('');
    this.update();
  }

  #onEnd() {
    cancelConfirmation();
    showNotice('');
    this.#waitingList.show([]);
  }

  update() {
    const { client } = this.#room;
    const isInside = client.state !== 'lobby' && client.self !== null;
    setText(find('#permission'), isInside ? permissionText(client.may('publish'), this.#isStopped) : '');
    find('#waiting').toggleAttribute('hidden', client.state !== 'lobby');
    find('#copy').toggleAttribute('hidden', client.state === 'lobby');
    showText(find('#waiting-title'), this.#isHostHere ? 'lobby.waiting_title' : 'lobby.no_host_title');
    showText(find('#waiting-text'), this.#isHostHere ? 'lobby.waiting_text' : 'lobby.no_host_text');
    find('#locked').toggleAttribute('hidden', !(isInside && client.room?.locked));
    this.#showWaiting();
    find('#manage').toggleAttribute('hidden', !isInside || (!client.may('moderate') && !client.may('end')));
    find('#lock').toggleAttribute('hidden', !client.may('moderate'));
    showText(find('#lock span'), client.room?.locked ? 'host.unlock' : 'host.lock');
    find('#lobby-switch').toggleAttribute('hidden', !client.may('moderate') || !client.may('admit'));
    showText(find('#lobby-switch span'), client.room?.lobby ? 'host.lobby_off' : 'host.lobby_on');
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
    const isStopped = info.muted ?? false;
    const lowering = { id: 'lower-hand', label: text('hand.lower'), description: text('hand.lower_person', { name }), run: () => this.#run(this.#hands.lower(peerId)) };
    return [
      ...(this.#hands.order.includes(peerId) ? [lowering] : []),
      {
        id: 'mute',
        label: text(isStopped ? 'host.allow_media' : 'host.stop_media'),
        description: text(isStopped ? 'host.allow_media_person' : 'host.stop_media_person', { name }),
        run: () => this.#run(mute(this.#room, peerId, !isStopped)),
      },
      { id: 'kick', label: text('host.remove'), description: text('host.remove_person', { name }), kind: 'stop', run: () => void this.#remove(info) },
    ];
  }

  #showWaiting() {
    const { waiting } = this.#room.client;
    const people = [...waiting.values()].map((person) => {
      const { peerId } = person;
      const name = this.#nameOf(person);
      const admission = { id: 'admit', label: text('lobby.admit'), description: text('lobby.admit_person', { name }), kind: 'admit', run: () => this.#run(admit(this.#room, peerId)) };
      const refusal = { id: 'deny', label: text('lobby.refuse'), description: text('lobby.refuse_person', { name }), run: () => this.#run(deny(this.#room, peerId)) };
      return { id: peerId, name, state: '', actions: [admission, refusal] };
    });
    const hadFocus = find('#knocks').contains(document.activeElement);
    this.#waitingList.show(this.#room.may('admit') ? people : []);
    find('#knocks').toggleAttribute('hidden', people.length === 0 || !this.#room.may('admit'));
    // The row with the focused button was removed.
    if (hadFocus && !find('#knocks').contains(document.activeElement)) {
      /** @type {HTMLElement} */ (document.querySelector('#knocks:not([hidden]) button') ?? find('#room-title')).focus();
    }
  }

  /** @param {import('./client/messages.js').PeerEntry} person */
  async #remove({ peerId, source = 'guest', ...person }) {
    const name = this.#nameOf(person);
    const isLocked = this.#room.client.room?.locked ?? false;
    const answer = await askConfirmation({
      title: text('host.remove_title', { name }),
      text: text(`host.remove_${source}`, { name }),
      yes: text('host.remove'),
      option: isLocked ? '' : text('host.also_lock'),
    });
    if (!answer) return;
    // The lock comes first, so that the person is not back before it.
    if (answer.option) this.#run(lock(this.#room, true));
    this.#run(kick(this.#room, peerId));
  }

  async #endCall() {
    const answer = await askConfirmation({ title: text('host.end_title'), text: text('host.end_text'), yes: text('host.end'), option: text('host.end_lock') });
    if (answer) this.#run(end(this.#room, { lock: answer.option }));
  }

  /** @param {Promise<unknown>} action */
  #run(action) {
    setText(find('#call-problem'), '');
    action.catch((error) => this.#room.client.state !== 'closed' && setText(find('#call-problem'), actionFailedText(error)));
  }

  /** @param {boolean} isHere */
  #onHost(isHere) {
    this.#isHostHere = isHere;
    this.update();
  }

  /** @param {boolean} stopped by a moderator */
  #onPermissions(stopped) {
    this.#isStopped = stopped;
    this.update();
  }
}
