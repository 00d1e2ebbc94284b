/**
 * The screen of a call: shows the state of a Room as tiles, texts and a list of people. Owns that
 * part of the document.
 */
import { ConditionTimers } from './condition-timers.js';
import { find, setText } from './dom.js';
import { ModerationPanel } from './moderation-panel.js';
import { clientStateText, mediaProblemText, noConnectionText, peerStateText } from './page-texts.js';
import { PeopleList } from './people-list.js';
import { shownName } from './person-names.js';
import { VideoStage } from './video-stage.js';

/**
 * @typedef {import('./client/room.js').Room} Room
 * @typedef {import('./client/peer.js').Peer} Peer
 * @typedef {import('./local-media.js').LocalMedia} LocalMedia
 */

/** A shorter loss of the own connection is not shown. */
const OWN_LOSS_MS = 1_000;

/** A shorter loss of the connection of a peer is not shown, because its media continues. */
const PEER_LOSS_MS = 4_000;

/** A peer with a closed page keeps its tile this long, because most pages return after a reload. */
const CLOSED_PAGE_MS = 1_000;

export class CallView {
  #room;
  #media;
  #name;
  #wasOpen = false;
  /** @type {string | undefined} */
  #lossReason;
  /** The peers to which this browser could not create a connection. @type {Set<string>} */
  #unconnected = new Set();
  #timers = new ConditionTimers(() => this.#update());
  #stage;
  #updateOwnTile;
  #moderation;
  #people = new PeopleList(find('#people-list'));
  #status = find('#status');
  #abort = new AbortController();

  /** @param {{ room: Room, media: LocalMedia, name: string, title: string }} options */
  constructor({ room, media, name, title }) {
    this.#room = room;
    this.#media = media;
    this.#name = name;
    this.#stage = new VideoStage(find('#stage'), () => this.#askForClick());
    this.#stage.clear();
    this.#updateOwnTile = this.#stage.addSelf(media, name, () => this.#mayPublish());
    this.#moderation = new ModerationPanel(room, (person) => this.#nameOf(person));
    setText(find('#room-title'), title);
    this.#showMediaProblem();
    this.#listen();
    this.#update();
  }

  close() {
    this.#abort.abort();
    this.#timers.stop();
    this.#moderation.close();
    this.#stage.clear();
  }

  #listen() {
    const { signal } = this.#abort;
    const { client } = this.#room;
    this.#room.on('peer', (peer) => this.#add(peer), { signal });
    this.#room.on('error', (failure) => this.#onConnectionError(failure), { signal });
    client.on('state', ({ error }) => this.#onState(error?.code), { signal });
    for (const name of /** @type {const} */ (['joined', 'permissions'])) client.on(name, () => this.#publishMedia(), { signal });
    for (const name of /** @type {const} */ (['resumed', 'peer-joined', 'peer-left'])) client.on(name, () => this.#update(), { signal });
    this.#media.addEventListener('change', () => this.#onMediaChange(), { signal });
  }

  /** @param {string | undefined} reason the error code of a lost connection */
  #onState(reason) {
    if (reason !== undefined || this.#room.client.state === 'open') this.#lossReason = reason;
    this.#update();
  }

  /** @param {{ peerId: string, error: unknown }} failure */
  #onConnectionError({ peerId, error }) {
    this.#unconnected.add(peerId);
    console.warn('no connection:', error);
    this.#update();
  }

  /** @param {Peer} peer */
  #add(peer) {
    peer.on('closed', () => ['page-closed', 'detached'].forEach((condition) => this.#timers.forget(`${condition} ${peer.peerId}`)));
    for (const name of /** @type {const} */ (['state', 'trouble', 'info', 'closed'])) peer.on(name, () => this.#update());
    peer.on('datachannel', (channel) => channel.addEventListener('close', () => this.#update()));
    peer.on('error', (error) => console.warn(`with ${peer.name}:`, error));
    // The list shows the peer also if its tile cannot be made.
    this.#update();
    this.#stage.add(peer);
    this.#update();
  }

  /**
   * Whether the page of a detached peer is closed: its data channel is closed, or the same user has
   * another peer that is attached. A peer that only lost its socket still sends media.
   *
   * @param {Peer} peer
   */
  #isPageClosed({ peerId, info, dataChannel }) {
    const channelClosed = info.detached && dataChannel?.readyState === 'closed';
    if (this.#timers.update(`page-closed ${peerId}`, channelClosed, CLOSED_PAGE_MS)) return true;
    const others = [...this.#room.client.peers.values()];
    return info.detached && others.some((other) => other.userId === info.userId && other.peerId !== peerId && !other.detached);
  }

  /** How the page names this person. */
  get #self() {
    return { userId: this.#room.client.self?.userId ?? '', name: this.#name };
  }

  /** @param {import('./person-names.js').Person} person */
  #nameOf(person) {
    const { peers, waiting } = this.#room.client;
    return shownName(person, [this.#self, ...peers.values(), ...waiting.values()]);
  }

  /** The peers with a visible tile. */
  #visiblePeers() {
    // A peer without a connection that this page has never seen may not return.
    const isUnknown = (/** @type {Peer} */ peer) => peer.info.detached && peer.state === 'connecting';
    return [...this.#room.peers.values()].filter((peer) => !this.#isPageClosed(peer) && !isUnknown(peer));
  }

  /** The people in the room without a connection. */
  #unconnectedPeers() {
    const { client, peers } = this.#room;
    return [...client.peers.values()].filter(({ peerId }) => this.#unconnected.has(peerId) && !peers.has(peerId));
  }

  #onMediaChange() {
    for (const kind of /** @type {const} */ (['audio', 'video'])) void this.#room.setTrack(kind, this.#media.track(kind));
    this.#showMediaProblem();
    this.#publishMedia();
  }

  /** Before the join, the permissions are not known. */
  #mayPublish() {
    return this.#room.client.self === null || this.#room.may('publish');
  }

  #showMediaProblem() {
    setText(find('#call-problem'), this.#media.error ? mediaProblemText(this.#media.error) : '');
  }

  /** Publishes which devices are off, because silence or a dark tile looks like a fault. */
  #publishMedia() {
    const mayPublish = this.#mayPublish();
    const metadata = { audio: mayPublish && this.#media.isOn('audio'), video: mayPublish && this.#media.isOn('video') };
    // Before the first `joined` there is no record. Without a connection the update waits in the
    // queue.
    if (this.#wasOpen) this.#room.client.update({ metadata }).catch(() => {});
    this.#update();
  }

  #update() {
    const { client, peers } = this.#room;
    const visible = this.#visiblePeers();
    this.#wasOpen ||= client.state === 'open';
    for (const peer of peers.values()) this.#stage.update(peer.peerId, { hidden: !visible.includes(peer), name: this.#nameOf(peer.info), text: this.#peerText(peer) });
    this.#updateOwnTile(this.#nameOf(this.#self));
    const unconnected = this.#unconnectedPeers();
    const pending = visible.map((peer) => this.#peerText(peer)).find(Boolean) ?? unconnected.map((person) => noConnectionText(this.#nameOf(person)))[0];
    const general = clientStateText(client.state, visible.length + unconnected.length, this.#wasOpen, this.#lossReason);
    if (this.#showsStatus()) setText(this.#status, client.state === 'open' && pending ? pending : general);
    document.body.setAttribute('data-state', client.state);
    this.#showPeople(visible);
  }

  /** @param {Peer} peer */
  #peerText({ peerId, state, trouble, info }) {
    return peerStateText(state, this.#nameOf(info), this.#timers.update(`detached ${peerId}`, info.detached, PEER_LOSS_MS), trouble.code);
  }

  /** Whether to update the status line. A short reconnect during a call is not shown. */
  #showsStatus() {
    const reconnecting = this.#wasOpen && ['connecting', 'waiting'].includes(this.#room.client.state);
    return this.#timers.update('server', reconnecting, OWN_LOSS_MS) || !reconnecting;
  }

  /** @param {Peer[]} visible */
  #showPeople(visible) {
    const stateOf = (/** @type {Peer} */ peer) => this.#peerText(peer) || (peer.info.metadata.audio === false ? 'Muted' : 'Connected');
    const others = visible.map((peer) => ({ id: peer.peerId, name: this.#nameOf(peer.info), state: stateOf(peer), actions: this.#moderation.actionsFor(peer) }));
    const unconnected = this.#unconnectedPeers().map((person) => ({ id: person.peerId, name: this.#nameOf(person), state: noConnectionText(this.#nameOf(person)), actions: [] }));
    const hasSound = this.#mayPublish() && this.#media.isOn('audio');
    const own = { id: 'self', name: `${this.#nameOf(this.#self)} (you)`, state: hasSound ? 'Connected' : 'Muted', actions: [] };
    const everyone = [own, ...others, ...unconnected];
    this.#people.show(everyone);
    setText(find('#people-button span'), `People (${everyone.length})`);
  }

  #askForClick() {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Play sound';
    button.addEventListener('click', () => {
      setText(find('#call-problem'), '');
      this.#stage.playAll();
    });
    find('#call-problem').replaceChildren('Your browser plays no sound before you click. ', button);
  }
}
