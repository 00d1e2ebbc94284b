/**
 * The raised hands and their order. A raised hand is a number in the metadata of its peer, one more
 * than the highest hand that its page knew: so the order needs no clock, and late joiners see it.
 */
import { announce } from './announcer.js';
import { onCallMessage, sendCallMessage } from './call-messages.js';
import { find } from './dom.js';
import { showNotice } from './notice.js';
import { showText, text } from './texts.js';

/**
 * @typedef {import('./client/client.js').PeerEntry} PeerEntry
 * @typedef {{ peerId: string, hand: number }} RaisedHand
 */

export class RaisedHands {
  #room;
  #ownStatus;
  #nameOf;
  #onChange;
  /** The hands that were announced. @type {Set<string>} */
  #known = new Set();

  /**
   * @param {import('./client/room.js').Room} room
   * @param {import('./own-status.js').OwnStatus} ownStatus
   * @param {{ nameOf: (person: import('./person-names.js').Person) => string, onChange: () => void, signal: AbortSignal }} options
   *   `onChange`: the own hand has changed
   */
  constructor(room, ownStatus, { nameOf, onChange, signal }) {
    this.#room = room;
    this.#ownStatus = ownStatus;
    this.#nameOf = nameOf;
    this.#onChange = onChange;
    find('#hand-button').addEventListener('click', () => this.#toggle(), { signal });
    onCallMessage(room, 'lower-hand', (_, from) => this.#onLowered(from), signal);
    for (const name of /** @type {const} */ (['joined', 'peer-joined', 'peer-updated', 'peer-left', 'resumed'])) room.client.on(name, () => this.update(), { signal });
    this.update();
  }

  /** The peers with a raised hand, the first hand first; without the own one. @returns {RaisedHand[]} */
  #others() {
    const hands = [...this.#room.client.peers.values()].map((peer) => ({ peerId: peer.peerId, hand: handOf(peer) }));
    return /** @type {RaisedHand[]} */ (hands.filter(({ hand }) => hand !== null));
  }

  /** The peerIds of all raised hands, also the own one, the first hand first. @returns {string[]} */
  get order() {
    const hands = this.#others();
    const { hand } = this.#ownStatus;
    if (hand !== undefined) hands.push({ peerId: this.#room.client.peerId ?? '', hand });
    return hands.sort((one, other) => one.hand - other.hand || (one.peerId < other.peerId ? -1 : 1)).map(({ peerId }) => peerId);
  }

  /** Lowers the hand of another person, whose page is told who did it. @param {string} peerId */
  lower(peerId) {
    return sendCallMessage(this.#room, 'lower-hand', {}, peerId);
  }

  update() {
    const { client } = this.#room;
    const isUp = this.#ownStatus.hand !== undefined;
    const button = find('#hand-button');
    button.toggleAttribute('hidden', client.self === null || client.state === 'lobby');
    button.setAttribute('aria-pressed', String(isUp));
    showText(find('span', button), isUp ? 'bar.lower_hand' : 'bar.raise_hand');
    const raised = new Set(this.#others().map(({ peerId }) => peerId));
    for (const peerId of raised) {
      const peer = client.peers.get(peerId);
      if (peer && !this.#known.has(peerId)) announce(text('hand.raised_by', { name: this.#nameOf(peer) }));
    }
    this.#known = raised;
  }

  #toggle() {
    const isUp = this.#ownStatus.hand !== undefined;
    this.#set(isUp ? undefined : Math.max(0, ...this.#others().map(({ hand }) => hand)) + 1);
    announce(text(isUp ? 'hand.lowered' : 'hand.raised'));
  }

  /**
   * Anyone may send this, because a page does not know the permissions of other people. It does no
   * harm: the person is told who did it, and can raise the hand again.
   *
   * @param {PeerEntry} from
   */
  #onLowered(from) {
    if (this.#ownStatus.hand === undefined) return;
    this.#set(undefined);
    showNotice(text('hand.lowered_by', { name: this.#nameOf(from) }));
  }

  /** @param {number | undefined} hand */
  #set(hand) {
    this.#ownStatus.set({ hand });
    this.update();
    this.#onChange();
  }
}

/** The number of a raised hand, or null. Another page may have written anything. @param {PeerEntry} peer */
function handOf({ metadata }) {
  const hand = metadata.hand;
  return typeof hand === 'number' && Number.isSafeInteger(hand) && hand > 0 && hand < 1e9 ? hand : null;
}
