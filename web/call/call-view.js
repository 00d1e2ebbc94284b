/**
 * The screen of a call: shows the state of a Room as tiles, texts and a list of people. Owns that
 * part of the document.
 */
import { AloneCard } from './alone-card.js';
import { watchLevels } from './audio-levels.js';
import { CallTools } from './call-tools.js';
import { ConditionTimers } from './condition-timers.js';
import { Conversation } from './conversation.js';
import { setOpen } from './disclosures.js';
import { find, setText } from './dom.js';
import { HelpPanel } from './help-panel.js';
import { ModerationPanel } from './moderation-panel.js';
import { watchNetwork } from './network-watch.js';
import { clientStateText, mediaProblemText, peerStateText } from './page-texts.js';
import { PeoplePanel } from './people-panel.js';
import { shownName } from './person-names.js';
import { SpeakerDetector } from './speaker-detector.js';
import { text } from './texts.js';
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
  #alone;
  #tools;
  #speakers = new SpeakerDetector();
  #isNetworkPoor;
  #moderation;
  #conversation;
  #people = new PeoplePanel();
  #status = find('#status');
  #abort = new AbortController();

  /** @param {{ room: Room, media: LocalMedia, name: string, title: string, link: string }} options */
  constructor({ room, media, name, title, link }) {
    this.#room = room;
    this.#media = media;
    this.#name = name;
    const { signal } = this.#abort;
    this.#stage = new VideoStage(find('#stage'), { onBlockedSound: () => this.#askForClick(), onMore: () => setOpen('people', true) });
    this.#updateOwnTile = this.#stage.addSelf(media, name, () => this.#mayPublish());
    const nameOf = (/** @type {import('./person-names.js').Person} */ person) => this.#nameOf(person);
    this.#conversation = new Conversation({ room, nameOf, ownName: () => this.#nameOf(this.#self), onHand: () => this.#update(), signal });
    new HelpPanel(room, { nameOf, signal });
    this.#moderation = new ModerationPanel({ room, hands: this.#conversation.hands, nameOf, signal });
    this.#alone = new AloneCard({ link, signal });
    this.#tools = new CallTools({ room, media, stage: this.#stage, signal });
    this.#isNetworkPoor = watchNetwork(room, () => this.#update(), signal);
    watchLevels(room, (levels) => this.#onLevels(levels), signal);
    setText(find('#room-title'), title);
    this.#showMediaProblem();
    this.#listen();
    this.#update();
  }

  close() {
    this.#abort.abort();
    this.#timers.stop();
    this.#stage.close();
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
    find('#problem-close').addEventListener('click', () => setText(find('#call-problem'), ''), { signal });
    addEventListener('languagechange', () => this.#onLanguageChange(), { signal });
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

  /** @param {ReadonlyMap<string, number>} levels */
  #onLevels(levels) {
    this.#speakers.update(levels, performance.now());
    this.#stage.setSpeaker(this.#speakers.speaker, this.#speakers.isSpeaking);
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

  #onLanguageChange() {
    this.#moderation.update();
    this.#showMediaProblem();
    this.#update();
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
    this.#conversation.status.set({ audio: mayPublish && this.#media.isOn('audio'), video: mayPublish && this.#media.isOn('video') });
    this.#update();
  }

  #update() {
    const { client, peers } = this.#room;
    const visible = this.#visiblePeers();
    const hands = this.#conversation.hands.order;
    this.#wasOpen ||= client.state === 'open';
    for (const peer of peers.values()) this.#stage.update(peer.peerId, { hidden: !visible.includes(peer), name: this.#nameOf(peer.info), text: this.#peerText(peer), hasHand: hands.includes(peer.peerId) });
    this.#updateOwnTile(this.#nameOf(this.#self), hands.includes(client.peerId ?? ''));
    const unconnected = this.#unconnectedPeers();
    const others = visible.length + unconnected.length;
    // A person with a tile has the text there.
    const [pending] = unconnected.map((person) => text('peer.no_connection', { name: this.#nameOf(person) }));
    const general = clientStateText(client.state, others, this.#wasOpen, this.#lossReason);
    if (this.#showsStatus()) setText(this.#status, client.state === 'open' && pending ? pending : general);
    this.#alone.show(client.state === 'open' && others === 0);
    this.#tools.update();
    document.body.setAttribute('data-state', client.state);
    find('#call').toggleAttribute('data-joined', this.#wasOpen);
    this.#conversation.update();
    this.#showPeople(visible);
  }

  /** @param {Peer} peer */
  #peerText({ peerId, state, trouble, info }) {
    const isWeak = this.#timers.update(`detached ${peerId}`, info.detached, PEER_LOSS_MS) || this.#isNetworkPoor(peerId);
    return peerStateText(state, this.#nameOf(info), isWeak, trouble.code);
  }

  /** Whether to update the status line. A short reconnect during a call is not shown. */
  #showsStatus() {
    const reconnecting = this.#wasOpen && ['connecting', 'waiting'].includes(this.#room.client.state);
    return this.#timers.update('server', reconnecting, OWN_LOSS_MS) || !reconnecting;
  }

  /** @param {Peer[]} visible */
  #showPeople(visible) {
    const stateOf = (/** @type {Peer} */ peer) => this.#peerText(peer) || text(peer.info.metadata.audio === false ? 'peer.muted' : 'peer.connected');
    const others = visible.map((peer) => ({ peerId: peer.peerId, name: this.#nameOf(peer.info), state: stateOf(peer), actions: this.#moderation.actionsFor(peer) }));
    const unconnected = this.#unconnectedPeers().map((person) => ({ peerId: person.peerId, name: this.#nameOf(person), state: text('peer.no_connection', { name: this.#nameOf(person) }), actions: [] }));
    const hasSound = this.#mayPublish() && this.#media.isOn('audio');
    const own = { peerId: this.#room.client.peerId ?? '', name: text('peer.you', { name: this.#nameOf(this.#self) }), state: text(hasSound ? 'peer.connected' : 'peer.muted'), actions: [] };
    this.#people.show(own, [...others, ...unconnected], this.#conversation.hands.order);
  }

  #askForClick() {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = text('status.play_sound');
    button.addEventListener('click', () => {
      setText(find('#call-problem'), '');
      this.#stage.playAll();
    });
    find('#call-problem').replaceChildren(text('status.sound_blocked'), ' ', button);
  }
}
