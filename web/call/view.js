/**
 * The screen of a running call: what a Room says becomes tiles, words and a list of people. Owns the call's part of the document; the
 * room and the media are given to it.
 */
import { find, say } from './dom.js';
import { Stage } from './stage.js';
import * as words from './words.js';

/**
 * @typedef {import('/client/room.js').Room} Room
 * @typedef {import('/client/peer.js').Peer} Peer
 * @typedef {import('./media.js').Media} Media
 */

export class CallView {
  #room;
  #media;
  #name;
  #wasOpen = false;
  #stage;
  #status = find('#status');
  #off = new AbortController();

  /** @param {{ room: Room, media: Media, name: string, title: string }} options */
  constructor({ room, media, name, title }) {
    this.#room = room;
    this.#media = media;
    this.#name = name;
    this.#stage = new Stage(find('#stage'), () => this.#askForClick());
    this.#stage.clear();
    this.#stage.addSelf(media, name);
    say(find('#room-title'), title);
    this.#showMediaProblem();
    this.#listen();
    this.#show();
  }

  end() {
    this.#off.abort();
    this.#stage.clear();
  }

  #listen() {
    const { signal } = this.#off;
    const { client } = this.#room;
    this.#room.on('peer', (peer) => this.#add(peer), { signal });
    client.on('state', () => this.#show(), { signal });
    client.on('joined', () => this.#tell(), { signal });
    client.on('peer-joined', (entry) => this.#dropGhosts(entry), { signal });
    client.on('peer-left', () => this.#show(), { signal });
    client.on('notice', ({ message }) => say(find('#call-problem'), message), { signal });
    this.#media.addEventListener('change', () => this.#onMedia(), { signal });
  }

  /** @param {Peer} peer */
  #add(peer) {
    this.#stage.add(peer);
    for (const name of /** @type {const} */ (['state', 'info', 'closed'])) peer.on(name, () => this.#show());
    peer.on('error', (error) => console.warn(`with ${peer.name}:`, error));
    this.#show();
  }

  /** Whoever lost its connection and came back is a new peer; the old one would stand frozen beside it. @param {{ userId: string, peerId: string }} entry */
  #dropGhosts({ userId, peerId }) {
    for (const peer of [...this.#room.peers.values()]) {
      if (peer.info.userId === userId && peer.peerId !== peerId && peer.info.detached) peer.close('replaced');
    }
  }

  #onMedia() {
    for (const kind of /** @type {const} */ (['audio', 'video'])) void this.#room.setTrack(kind, this.#media.track(kind));
    this.#showMediaProblem();
    this.#tell();
  }

  #showMediaProblem() {
    say(find('#call-problem'), this.#media.error ? words.mediaProblem(this.#media.error) : '');
  }

  /** Others see who is muted from the public record, since silence and darkness look like a fault. */
  #tell() {
    const metadata = { audio: this.#media.isOn('audio'), video: this.#media.isOn('video') };
    // Told again with the next change or the next `joined`.
    if (this.#room.client.state === 'open') this.#room.client.update({ metadata }).catch(() => {});
    this.#show();
  }

  #show() {
    const { client, peers } = this.#room;
    this.#wasOpen ||= client.state === 'open';
    const pending = [...peers.values()].map((peer) => words.peerState(peer.state, peer.name, peer.info.detached)).find(Boolean);
    const general = words.clientState(client.state, peers.size, this.#wasOpen);
    say(this.#status, client.state === 'open' && pending ? pending : general);
    document.body.setAttribute('data-state', client.state);
    this.#list();
  }

  #list() {
    const others = [...this.#room.peers.values()].map((peer) => [
      peer.name,
      words.peerState(peer.state, peer.name, peer.info.detached) || (peer.info.metadata.audio === false ? 'Muted' : 'Connected'),
    ]);
    const rows = [[`${this.#name} (you)`, this.#media.isOn('audio') ? 'Connected' : 'Muted'], ...others];
    find('#people-list').replaceChildren(...rows.map(([name = '', state = '']) => row(name, state)));
    say(find('#people-button span'), `People (${rows.length})`);
  }

  #askForClick() {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Play sound';
    button.addEventListener('click', () => {
      say(find('#call-problem'), '');
      this.#stage.playAll();
    });
    find('#call-problem').replaceChildren('Your browser waits for a click before it plays the others. ', button);
  }
}

/** @param {string} name @param {string} state */
function row(name, state) {
  const item = document.createElement('li');
  const [who, what] = [document.createElement('span'), document.createElement('span')];
  who.textContent = name;
  what.textContent = state;
  item.append(who, what);
  return item;
}
