/**
 * A list of people with buttons. Rows stay the same elements as long as their person is on the list, so that whoever uses the keyboard keeps the place.
 * Owns the rows; what a button does is told to it.
 */
import { copyOf, find, say } from './dom.js';

/**
 * @typedef {{ id: string, label: string, for: string, kind?: string, act: () => void }} Action `for`: the whole sentence, for who hears the page
 * @typedef {{ id: string, who: string, what: string, actions: Action[] }} Line
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

  /** @param {Line[]} lines */
  show(lines) {
    const ids = new Set(lines.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const [at, line] of lines.entries()) {
      const row = this.#rows.get(line.id) ?? copyOf('person');
      this.#rows.set(line.id, row);
      if (this.#list.children[at] !== row) this.#list.insertBefore(row, this.#list.children[at] ?? null);
      say(find('.who', row), line.who);
      say(find('.what', row), line.what);
      showActions(find('.acts', row), line.actions);
    }
  }
}

/** @param {Element} place @param {Action[]} actions */
function showActions(place, actions) {
  const known = new Map([...place.children].map((button) => [button.getAttribute('data-act'), /** @type {HTMLButtonElement} */ (button)]));
  for (const { id, label, for: whole, kind = '', act } of actions) {
    const button = known.get(id) ?? place.appendChild(Object.assign(document.createElement('button'), { type: 'button', className: `quiet ${kind}` }));
    known.delete(id);
    button.setAttribute('data-act', id);
    button.setAttribute('aria-label', whole);
    say(button, label);
    button.onclick = act;
  }
  for (const gone of known.values()) gone.remove();
}
