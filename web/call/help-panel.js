/**
 * The help: how each connection of the call is, what the person can do, and the keys. Owns the content
 * of the panel `#help`. Asks the connections only while the panel is open.
 */
import { connectionText, reportText } from './connection-texts.js';
import { find, setText } from './dom.js';
import { PeopleList } from './people-list.js';
import { text } from './texts.js';

const INTERVAL_MS = 2_000;

export class HelpPanel {
  #room;
  #nameOf;
  #panel = /** @type {HTMLElement} */ (find('#help'));
  #list = new PeopleList(find('#help-list'));
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * @param {import('./client/room.js').Room} room
   * @param {{ nameOf: (person: import('./person-names.js').Person) => string, signal: AbortSignal }} options
   */
  constructor(room, { nameOf, signal }) {
    this.#room = room;
    this.#nameOf = nameOf;
    this.#panel.addEventListener('shown', () => this.#start(), { signal });
    find('#help-copy').addEventListener('click', () => void this.#copyReport(), { signal });
    signal.addEventListener('abort', () => clearInterval(this.#timer));
    this.#showReport('');
  }

  #start() {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => void this.#update(), INTERVAL_MS);
    setText(find('#help-copied'), '');
    this.#showReport('');
    void this.#update();
  }

  async #update() {
    if (this.#panel.hidden) return clearInterval(this.#timer);
    const { client, peers } = this.#room;
    const server = { id: 'server', name: text('help.server'), state: text(client.state === 'open' ? 'help.server_open' : 'help.server_lost'), actions: [] };
    const people = await Promise.all(
      [...client.peers.values()].map(async (person) => {
        const name = this.#nameOf(person);
        const peer = peers.get(person.peerId);
        const state = peer ? connectionText(await peer.diagnose(), name) : text('peer.no_connection', { name });
        return { id: person.peerId, name, state, actions: [] };
      }),
    );
    this.#list.show([server, ...people]);
    return undefined;
  }

  async #copyReport() {
    const connections = await Promise.all([...this.#room.peers.values()].map((peer) => peer.diagnose()));
    const report = reportText({ server: this.#room.state, connections }, navigator.userAgent, new Date());
    try {
      await navigator.clipboard.writeText(report);
      setText(find('#help-copied'), text('help.copied'));
    } catch {
      setText(find('#help-copied'), text('help.not_copied'));
      this.#showReport(report);
    }
  }

  /** A person who may not use the clipboard copies it by hand. @param {string} report */
  #showReport(report) {
    const field = /** @type {HTMLTextAreaElement} */ (find('#help-report'));
    field.value = report;
    field.hidden = report === '';
    if (report !== '') field.select();
  }
}
