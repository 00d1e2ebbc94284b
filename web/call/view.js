/**
 * The screen of a running call: what a Room says becomes tiles, words and a list of people. Owns the call's part of the document; the
 * room and the media are given to it.
 */
import { find, say } from './dom.js';
import { Doorway } from './doorway.js';
import { Lasting } from './lasting.js';
import { PeopleList } from './list.js';
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
  /** @type {string | undefined} */
  #why;
  #lasting = new Lasting(() => this.#show());
  #stage;
  #showSelf;
  #doorway;
  #people = new PeopleList(find('#people-list'));
  #status = find('#status');
  #off = new AbortController();

  /** @param {{ room: Room, media: Media, name: string, title: string }} options */
  constructor({ room, media, name, title }) {
    this.#room = room;
    this.#media = media;
    this.#name = name;
    this.#stage = new Stage(find('#stage'), () => this.#askForClick());
    this.#stage.clear();
    this.#showSelf = this.#stage.addSelf(media, name, () => this.#maySend());
    this.#doorway = new Doorway(room);
    say(find('#room-title'), title);
    this.#showMediaProblem();
    this.#listen();
    this.#show();
  }

  end() {
    this.#off.abort();
    this.#lasting.end();
    this.#doorway.end();
    this.#stage.clear();
  }

  #listen() {
    const { signal } = this.#off;
    const { client } = this.#room;
    this.#room.on('peer', (peer) => this.#add(peer), { signal });
    client.on('state', ({ error }) => this.#onState(error?.code), { signal });
    for (const name of /** @type {const} */ (['joined', 'permissions'])) client.on(name, () => this.#tell(), { signal });
    for (const name of /** @type {const} */ (['resumed', 'peer-joined', 'peer-left'])) client.on(name, () => this.#show(), { signal });
    this.#media.addEventListener('change', () => this.#onMedia(), { signal });
  }

  /** @param {string | undefined} why the connection is away */
  #onState(why) {
    if (why !== undefined || this.#room.client.state === 'open') this.#why = why;
    this.#show();
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

  /** Before this page is in the room nobody has said that it may not. */
  #maySend() {
    return this.#room.client.self === null || this.#room.may('publish');
  }

  #showMediaProblem() {
    say(find('#call-problem'), this.#media.error ? words.mediaProblem(this.#media.error) : '');
  }

  /** Others see who is muted from the public record, since silence and darkness look like a fault. */
  #tell() {
    const maySend = this.#maySend();
    const metadata = { audio: maySend && this.#media.isOn('audio'), video: maySend && this.#media.isOn('video') };
    this.#showSelf();
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
    const general = words.clientState(client.state, present.length, this.#wasOpen, this.#why);
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
    const what = (/** @type {Peer} */ peer) => this.#sentence(peer) || (peer.info.metadata.audio === false ? 'Muted' : 'Connected');
    const others = present.map((peer) => ({ id: peer.peerId, who: peer.name, what: what(peer), actions: this.#doorway.actionsFor(peer) }));
    const isHeard = this.#maySend() && this.#media.isOn('audio');
    const own = { id: 'self', who: `${this.#name} (you)`, what: isHeard ? 'Connected' : 'Muted', actions: [] };
    this.#people.show([own, ...others]);
    say(find('#people-button span'), `People (${others.length + 1})`);
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
