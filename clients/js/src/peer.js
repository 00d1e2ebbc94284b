/**
 * One RTCPeerConnection to one peer of the room, kept alive: negotiated by the peers themselves, restarted when the network changes,
 * closed when the peer leaves. Owns the connection and the media that arrives on it. See negotiation.js for glare, outgoing.js for what is sent.
 */
import { SignalingError } from './codes.js';
import { Emitter } from './events.js';
import { Negotiation } from './negotiation.js';
import { Outgoing } from './outgoing.js';

/**
 * @typedef {import('./client.js').SignalingClient} SignalingClient
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 *
 * @typedef {'connecting' | 'connected' | 'reconnecting' | 'failed' | 'closed'} PeerState `failed` is no end: ICE starts anew
 *
 * @typedef {object} PeerOptions
 * @property {SignalingClient} client
 * @property {string} peerId a peer that is in the room
 * @property {MediaStreamTrack[]} [tracks] what to send from the beginning
 * @property {RTCConfiguration} [rtc] added to the ICE configuration that the server gave
 * @property {boolean} [dataChannel] whether the impolite side opens {@link Peer.dataChannel}; it also connects two peers that
 *   send no media
 *
 * @typedef {object} PeerEvents
 * @property {PeerState} state
 * @property {RTCTrackEvent} track
 * @property {RTCDataChannel} datachannel {@link Peer.dataChannel} is open
 * @property {PeerEntry} info the peer changed its name or metadata, or its socket was lost or came back
 * @property {unknown} error
 * @property {string} closed why
 */

/** A connection is often back by itself after so long; restarting ICE at once would cost more than it gains. */
const DISCONNECTED_MS = 3_000;

/**
 * A store that lost what it knew is filled again by each node with its own peers: who is missing from a snapshot may be back in a moment, and
 * its media has never stopped.
 */
const MISSING_MS = 5_000;

/** As long as its media is there, so is the peer, and only slow to come back; but no server waits for ever. */
const MISSING_CONNECTED_MS = 45_000;

/** Of the data channel that every two peers have. */
const LABEL = 'signalbox';

/** @extends {Emitter<PeerEvents>} */
export class Peer extends Emitter {
  /** What arrives from the peer; tracks come and go, the stream stays. @readonly */
  stream = new MediaStream();
  /** @readonly @type {RTCPeerConnection} */
  pc;
  /** For the application, the same on both sides; null until it is open. @type {RTCDataChannel | null} */
  dataChannel = null;
  /** @type {PeerState} */
  #state = 'connecting';
  #wasConnected = false;
  /** @type {PeerEntry} */
  #info;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Runs while the room does not know the peer. @type {ReturnType<typeof setTimeout> | undefined} */
  #missing;
  #off = new AbortController();
  #client;
  #negotiation;
  #outgoing;
  #rtc;
  /** Whether there is to be a {@link dataChannel}. */
  #opensData;
  #mayData;
  /** Whether there has been one. */
  #dataBegan = false;
  #icePolicy;

  /** @param {PeerOptions} options */
  constructor({ client, peerId, tracks = [], rtc = {}, dataChannel = true }) {
    super();
    const info = client.peers.get(peerId);
    if (!info || !client.self) throw new SignalingError('no_such_peer', 'The peer is not in the room.');
    this.#client = client;
    this.#info = info;
    this.#rtc = rtc;
    this.#icePolicy = client.self.icePolicy;
    this.pc = new RTCPeerConnection(this.#configuration());
    this.#negotiation = new Negotiation({
      pc: this.pc,
      polite: info.polite,
      post: (frame) => this.#post(frame),
      onError: (error) => this.emit('error', error),
      isReachable: () => client.state === 'open' && !this.#info.detached,
      mayHaveData: () => client.may('data'),
    });
    this.#outgoing = new Outgoing(this.pc, client.may('publish'));
    this.#listen();
    // Not both sides: Chromium cannot start SCTP after an offer with a data channel was rolled back, and the impolite side never
    // rolls back.
    this.#opensData = dataChannel;
    this.#mayData = client.may('data');
    if (dataChannel && !info.polite && this.#mayData) this.#openData();
    // Nor does the impolite side wait to be offered something.
    if (!info.polite && !client.may('publish')) this.#outgoing.listen();
    for (const track of tracks) void this.setTrack(track.kind, track);
  }

  get peerId() {
    return this.#info.peerId;
  }

  get name() {
    return this.#info.name ?? this.#info.userId;
  }

  /** The peer's public record. */
  get info() {
    return this.#info;
  }

  get state() {
    return this.#state;
  }

  /**
   * Sends this track from now on, in place of the one of that kind before it; null sends none. Without the permission `publish` it waits for
   * that.
   *
   * @param {string} kind `audio` or `video`
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    await this.#outgoing.set(kind, track);
  }

  /** @param {string} [why] */
  close(why = 'closed') {
    if (this.#state === 'closed') return;
    this.#off.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#missing);
    this.#negotiation.stop();
    this.pc.close();
    this.#setState('closed');
    this.emit('closed', why);
  }

  #listen() {
    const { signal } = this.#off;
    const client = this.#client;
    for (const name of /** @type {const} */ (['offer', 'answer', 'pranswer', 'rollback', 'candidate'])) {
      client.on(name, (frame) => this.#isMine(frame.from) && void this.#negotiation.receive(frame), { signal });
    }
    client.on('peer-left', ({ peerId, reason }) => this.#isMine(peerId) && this.close(reason), { signal });
    // A new `joined` is a new identity: what the peers agreed with the old one is void.
    for (const name of /** @type {const} */ (['joined', 'lobby'])) client.on(name, () => this.close('session_gone'), { signal });
    client.on('resumed', ({ recovered }) => this.#onResumed(recovered), { signal });
    client.on('permissions', () => this.#onPermissions(), { signal });
    client.on('ice-servers', () => this.#onIceServers(), { signal });
    client.on('peer-joined', ({ peerId }) => this.#isMine(peerId) && this.#onSnapshot(), { signal });
    client.on('state', ({ state }) => state === 'closed' && this.close('left'), { signal });
    for (const name of /** @type {const} */ (['peer-updated', 'peer-detached', 'peer-attached'])) {
      client.on(name, ({ peerId }) => this.#isMine(peerId) && this.#renew(), { signal });
    }
    this.pc.addEventListener('track', (event) => this.#onTrack(event), { signal });
    this.pc.addEventListener('datachannel', ({ channel }) => channel.label === LABEL && this.#onDataChannel(channel), { signal });
    this.pc.addEventListener('connectionstatechange', () => this.#onConnectionState(), { signal });
  }

  /** @param {string} peerId */
  #isMine(peerId) {
    return peerId === this.#info.peerId;
  }

  /** What the server says, and what the application adds; `relay` is kept whoever of the two wants it. */
  #configuration() {
    const { iceServers = [], icePolicy = 'all' } = this.#client.self ?? {};
    const isRelay = icePolicy === 'relay' || this.#rtc.iceTransportPolicy === 'relay';
    return { iceServers, ...this.#rtc, iceTransportPolicy: /** @type {RTCIceTransportPolicy} */ (isRelay ? 'relay' : 'all') };
  }

  /** New credentials are for what is gathered from now on; what stands goes on, unless it stands on what is not allowed any more. */
  #onIceServers() {
    const { icePolicy } = this.#client.self ?? {};
    try {
      this.pc.setConfiguration(this.#configuration());
    } catch (error) {
      this.emit('error', error);
    }
    if (icePolicy && icePolicy !== this.#icePolicy) this.pc.restartIce();
    this.#icePolicy = icePolicy ?? this.#icePolicy;
  }

  #onPermissions() {
    this.#outgoing.allow(this.#client.may('publish')).catch((error) => this.emit('error', error));
    const gainsData = this.#client.may('data') && !this.#mayData;
    this.#mayData = this.#client.may('data');
    if (!this.#mayData) this.dataChannel?.close();
    // Not a second time: Chromium's renderer dies of data channels that come back to a connection where they were given up.
    else if (gainsData && this.#opensData && !this.#dataBegan) this.#openData();
    this.#negotiation.allowed();
  }

  /** @param {boolean} recovered */
  #onResumed(recovered) {
    this.#onIceServers();
    this.#onPermissions();
    if (!recovered) this.#onSnapshot();
  }

  #openData() {
    this.#onDataChannel(this.pc.createDataChannel(LABEL));
  }

  #renew() {
    this.#info = this.#client.peers.get(this.peerId) ?? this.#info;
    this.emit('info', this.#info);
  }

  /** The room is told anew: what was sent between the two may be lost, but the connection stands. */
  #onSnapshot() {
    if (!this.#client.peers.has(this.peerId)) return this.#expect();
    clearTimeout(this.#missing);
    this.#missing = undefined;
    this.#renew();
    void this.#negotiation.renegotiate();
  }

  #expect() {
    if (this.#missing !== undefined) return;
    const end = Date.now() + MISSING_CONNECTED_MS;
    const look = () => {
      if (!this.#isThere() || Date.now() >= end) this.close('left');
      else this.#missing = setTimeout(look, MISSING_MS);
    };
    this.#missing = setTimeout(look, MISSING_MS);
  }

  /** Whether the peer itself has neither hung up nor become silent. */
  #isThere() {
    return this.pc.connectionState === 'connected' && this.dataChannel?.readyState !== 'closed';
  }

  /** @param {import('./queue.js').ClientFrame} frame */
  #post(frame) {
    const sending = this.#client.post({ ...frame, to: this.peerId });
    sending.done.catch((error) => this.#refused(error, frame.type));
    return sending;
  }

  /** @param {SignalingError} error @param {string} type of what was refused */
  #refused(error, type) {
    // A description that this side may not send is the negotiation's to make anew.
    if (error.code === 'not_permitted' && type !== 'candidate') return;
    // That the peer is gone is also told by `peer-left`, but this may come first; or the peer is only missing for a moment.
    if (error.code === 'no_such_peer') this.#expect();
    else if (this.#state !== 'closed') this.emit('error', error);
  }

  /** @param {RTCTrackEvent} event */
  #onTrack(event) {
    for (const old of this.stream.getTracks()) {
      if (old.kind === event.track.kind && old !== event.track) this.stream.removeTrack(old);
    }
    this.stream.addTrack(event.track);
    this.emit('track', event);
  }

  /** @param {RTCDataChannel} channel */
  #onDataChannel(channel) {
    this.#dataBegan = true;
    const opened = () => {
      this.dataChannel = channel;
      this.emit('datachannel', channel);
    };
    if (channel.readyState === 'open') opened();
    else channel.addEventListener('open', opened, { signal: this.#off.signal });
  }

  #onConnectionState() {
    clearTimeout(this.#timer);
    switch (this.pc.connectionState) {
      case 'connected':
        this.#wasConnected = true;
        return this.#setState('connected');
      case 'disconnected':
        this.#timer = setTimeout(() => this.pc.restartIce(), DISCONNECTED_MS);
        return this.#setState('reconnecting');
      case 'failed':
        this.pc.restartIce();
        return this.#setState(this.#wasConnected ? 'reconnecting' : 'failed');
      default:
        return undefined;
    }
  }

  /** @param {PeerState} state */
  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.emit('state', state);
  }
}
