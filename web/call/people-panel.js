/**
 * The panel with the people of the call: this person, then the raised hands in their order, then the
 * others. Owns the list, and the number on its button.
 */
import { find, setText } from './dom.js';
import { PeopleList } from './people-list.js';
import { text } from './texts.js';

/**
 * @typedef {object} ListedPerson
 * @property {string} peerId
 * @property {string} name
 * @property {string} state
 * @property {import('./people-list.js').PersonAction[]} actions
 */

export class PeoplePanel {
  #list = new PeopleList(find('#people-list'));

  /**
   * @param {ListedPerson} own
   * @param {ListedPerson[]} others
   * @param {string[]} hands the peerIds of the raised hands, the first one first
   */
  show(own, others, hands) {
    const place = (/** @type {ListedPerson} */ { peerId }) => (hands.includes(peerId) ? hands.indexOf(peerId) : hands.length);
    const everyone = [own, ...others.sort((one, other) => place(one) - place(other))];
    const stateOf = (/** @type {ListedPerson} */ person) => (hands.includes(person.peerId) ? `${text('hand.place', { place: place(person) + 1 })} · ${person.state}` : person.state);
    this.#list.show(everyone.map((person) => ({ id: person.peerId, name: person.name, state: stateOf(person), actions: person.actions })));
    setText(find('#people-button span'), text('bar.people', { count: everyone.length }));
  }
}
