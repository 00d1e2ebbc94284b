/**
 * A list of people with buttons. A person keeps the same row, so that the keyboard focus stays.
 * Owns the rows; the caller gives the actions of the buttons.
 */
import { cloneTemplate, find, setText } from './dom.js';

/**
 * @typedef {{ id: string, label: string, description: string, kind?: string, run: () => void }}
 *   PersonAction `description`: a full sentence for screen readers
 * @typedef {{ id: string, name: string, state: string, actions: PersonAction[] }} PersonRow
 */

export class PeopleList {
  /** @type {Map<string, Element>} */
  #rows = new Map();
  #list;

  /** @param {Element} list */
  constructor(list) {
    this.#list = list;
    list.replaceChildren();
  }

  /** @param {PersonRow[]} people */
  show(people) {
    const ids = new Set(people.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    const focused = this.#list.contains(document.activeElement) ? document.activeElement : null;
    for (const [index, person] of people.entries()) {
      const row = this.#rows.get(person.id) ?? cloneTemplate('person');
      this.#rows.set(person.id, row);
      if (this.#list.children[index] !== row) this.#list.insertBefore(row, this.#list.children[index] ?? null);
      setText(find('.person-name', row), person.name);
      setText(find('.person-state', row), person.state);
      showActions(find('.actions', row), person.actions);
    }
    // A row that goes to another place loses the focus.
    if (focused?.isConnected && focused !== document.activeElement) /** @type {HTMLElement} */ (focused).focus();
  }
}

/** @param {Element} container @param {PersonAction[]} actions */
function showActions(container, actions) {
  const buttons = new Map([...container.children].map((button) => [button.getAttribute('data-action'), /** @type {HTMLButtonElement} */ (button)]));
  for (const [id, button] of buttons) if (!actions.some((action) => action.id === id)) button.remove();
  for (const [index, { id, label, description, kind = '', run }] of actions.entries()) {
    const button = buttons.get(id) ?? Object.assign(document.createElement('button'), { type: 'button', className: `quiet ${kind}` });
    if (container.children[index] !== button) container.insertBefore(button, container.children[index] ?? null);
    button.setAttribute('data-action', id);
    button.setAttribute('aria-label', description);
    setText(button, label);
    button.onclick = run;
  }
}
