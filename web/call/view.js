/**
 * The screen of a running call: what a Room says becomes tiles, words and a list of people. Owns the call's part of the document; the
 * room and the media are given to it.
 */
import { find, say } from './dom.js';
import { Lasting } from './lasting.js';
import { Stage } from './stage.js';
import * as words from './words.js';

/**
 * @typedef {import('/client/room.js').Room} Room
 * @typedef {import('/client/peer.js').Peer} Peer
 * @typedef {import('./media.js').Media} Media
 */

/** This page's connection to the server that is back in so short a time is not worth a word. */
const HINT_MS = 1_000;

/** Nor is another's, who is seen and heard all the while. */
const PEER_HINT_MS = 4_000;

/** Whose page went, by a reload most of the time, keeps the place on the stage so long: the next page is here in less. */
const GHOST_MS = 1_000;

export class CallView {
  #room;
  #media;
  #name;
  #wasOpen = false;
  #lasting = new Lasting(() => this.#show());
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
    this.#lasting.end();
    this.#stage.clear();
  }

  #listen() {
    const { signal } = this.#off;
    const { client } = this.#room;
    this.#room.on('peer', (peer) => this.#add(peer), { signal });
    client.on('state', () => this.#show(), { signal });
    client.on('joined', () => this.#tell(), { signal });
    for (const name of /** @type {const} */ (['resumed', 'peer-joined', 'peer-left'])) client.on(name, () => this.#show(), { signal });
    client.on('notice', ({ message }) => say(find('#call-problem'), message), { signal });
    this.#media.addEventListener('change', () => this.#onMedia(), { signal });
  }

  /** @param {Peer} peer */
  #add(peer) {
    this.#stage.add(peer);
    peer.on('closed', () => ['ghost', 'away'].forEach((what) => this.#lasting.forget(`${what} ${peer.peerId}`)));
    for (const name of /** @type {const} */ (['state', 'info', 'closed'])) peer.on(name, () => this.#show());
    peer.on('datachannel', (channel) => channel.addEventListener('close', () => this.#show()));
    peer.on('error', (error) => console.warn(`with ${peer.name}:`, error));
    this.#show();
  }

  /**
   * A peer whose page is gone, while the server still waits for it to come back: its socket is lost, and it has hung up or is here a second
   * time. One that only lost its socket is still seen and heard.
   *
   * @param {Peer} peer
   */
  #isGhost({ peerId, info, dataChannel }) {
    const hungUp = info.detached && dataChannel?.readyState === 'closed';
    if (this.#lasting.note(`ghost ${peerId}`, hungUp, GHOST_MS)) return true;
    const others = [...this.#room.client.peers.values()];
    return info.detached && others.some((other) => other.userId === info.userId && other.peerId !== peerId && !other.detached);
  }

  /** Who is on the stage. */
  #present() {
    return [...this.#room.peers.values()].filter((peer) => !this.#isGhost(peer));
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
    // Before the first `joined` there is nobody to tell; while the connection is away it waits for it.
    if (this.#wasOpen) this.#room.client.update({ metadata }).catch(() => {});
    this.#show();
  }

  #show() {
    const { client, peers } = this.#room;
    const present = this.#present();
    this.#wasOpen ||= client.state === 'open';
    for (const peer of peers.values()) this.#stage.update(peer.peerId, { hidden: !present.includes(peer), sentence: this.#sentence(peer) });
    const pending = present.map((peer) => this.#sentence(peer)).find(Boolean);
    const general = words.clientState(client.state, present.length, this.#wasOpen);
    if (this.#mayTell()) say(this.#status, client.state === 'open' && pending ? pending : general);
    document.body.setAttribute('data-state', client.state);
    this.#list(present);
  }

  /** @param {Peer} peer */
  #sentence({ peerId, state, name, info }) {
    return words.peerState(state, name, this.#lasting.note(`away ${peerId}`, info.detached, PEER_HINT_MS));
  }

  /** Whether the status line is to follow the state now: that a running call reconnects is only said when it takes a while. */
  #mayTell() {
    const away = this.#wasOpen && ['connecting', 'waiting'].includes(this.#room.client.state);
    return this.#lasting.note('server', away, HINT_MS) || !away;
  }

  /** @param {Peer[]} present */
  #list(present) {
    const others = present.map((peer) => [
      peer.name,
      this.#sentence(peer) || (peer.info.metadata.audio === false ? 'Muted' : 'Connected'),
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
