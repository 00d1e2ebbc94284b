/**
 * One RTCPeerConnection to one peer of the room. Negotiates it, restarts ICE when the network
 * changes, and closes it when the peer leaves. Owns the connection and the remote media. See
 * negotiation.js for glare, and local-tracks.js for the sent tracks.
 */
import { SignalingError } from './codes.js';
import { LocalTracks } from './local-tracks.js';
import { Negotiation } from './negotiation.js';
import { TypedEmitter } from './typed-emitter.js';

/**
 * @typedef {import('./client.js').SignalingClient} SignalingClient
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 *
 * @typedef {'connecting' | 'connected' | 'reconnecting' | 'failed' | 'closed'} PeerState `failed`:
 *   no route was found yet, and ICE restarts
 *
 * @typedef {object} PeerOptions
 * @property {SignalingClient} client
 * @property {string} peerId a peer of the room
 * @property {MediaStreamTrack[]} [tracks] the tracks to send from the start
 * @property {RTCConfiguration} [rtc] added to the ICE configuration of the server
 * @property {boolean} [dataChannel] whether the impolite side opens {@link Peer.dataChannel}; it
 *   also connects two peers that send no media
 *
 * @typedef {object} PeerEvents
 * @property {PeerState} state
 * @property {RTCTrackEvent} track
 * @property {RTCDataChannel} datachannel {@link Peer.dataChannel} is open
 * @property {PeerEntry} info the peer changed its name or metadata, or was detached or attached
 * @property {unknown} error
 * @property {string} closed the reason
 */

/** Many connections recover within this time, and an earlier ICE restart would cost more. */
const DISCONNECTED_MS = 3_000;

/**
 * After a store has lost its data, each node writes its own peers again. So a peer that is missing
 * from a snapshot may return soon, and its media has not stopped.
 */
const MISSING_MS = 5_000;

/** A peer with working media gets more time to return, but not without a limit. */
const MISSING_CONNECTED_MS = 45_000;

/** The label of {@link Peer.dataChannel}. */
const LABEL = 'signalbox';

/** @extends {TypedEmitter<PeerEvents>} */
export class Peer extends TypedEmitter {
  /** The remote media: tracks change, the stream stays the same. @readonly */
  stream = new MediaStream();
  /** @readonly @type {RTCPeerConnection} */
  pc;
  /** One channel for the application; null until it is open. @type {RTCDataChannel | null} */
  dataChannel = null;
  /** @type {PeerState} */
  #state = 'connecting';
  #wasConnected = false;
  /** @type {PeerEntry} */
  #info;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;
  /**
   * Runs while the peer is missing from the room.
   *
   * @type {ReturnType<typeof setTimeout> | undefined}
   */
  #missingTimer;
  #abort = new AbortController();
  #client;
  #negotiation;
  #localTracks;
  #rtc;
  /** Whether the options ask for a {@link dataChannel}. */
  #wantsData;
  #mayUseData;
  /** Whether a data channel was created. */
  #hadData = false;
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
      mayUseData: () => client.may('data'),
    });
    this.#localTracks = new LocalTracks(this.pc, client.may('publish'));
    this.#listen();
    this.#wantsData = dataChannel;
    this.#mayUseData = client.may('data');
    // Only the impolite side opens it, because that side never rolls back. After the rollback of an
    // offer with a data channel, Chromium cannot start SCTP.
    if (dataChannel && !info.polite && this.#mayUseData) this.#openData();
    // The impolite side must offer first, so without tracks it offers to receive.
    if (!info.polite && !client.may('publish')) this.#localTracks.addReceivers();
    for (const track of tracks) void this.setTrack(track.kind, track);
  }

  get peerId() {
    return this.#info.peerId;
  }

  /** The name of the peer, or its user if it gave no name. */
  get name() {
    return this.#info.name || this.#info.userId;
  }

  /** The public record of the peer. */
  get info() {
    return this.#info;
  }

  get state() {
    return this.#state;
  }

  /**
   * Sends this track instead of the current one of its kind; null stops sending. Without the
   * permission `publish`, the track is sent when this peer gets it.
   *
   * @param {string} kind `audio` or `video`
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    await this.#localTracks.setTrack(kind, track);
  }

  /** @param {string} [reason] */
  close(reason = 'closed') {
    if (this.#state === 'closed') return;
    this.#abort.abort();
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#missingTimer);
    this.#negotiation.stop();
    this.pc.close();
    this.#setState('closed');
    this.emit('closed', reason);
  }

  #listen() {
    const { signal } = this.#abort;
    const client = this.#client;
    for (const name of /** @type {const} */ (['offer', 'answer', 'pranswer', 'rollback', 'candidate'])) {
      client.on(name, (frame) => this.#isMine(frame.from) && void this.#negotiation.receive(frame), { signal });
    }
    client.on('peer-left', ({ peerId, reason }) => this.#isMine(peerId) && this.close(reason), { signal });
    // This client is a new peer now, so the negotiation of the old one is over.
    for (const name of /** @type {const} */ (['joined', 'lobby'])) client.on(name, () => this.close('session_gone'), { signal });
    client.on('resumed', ({ recovered }) => this.#onResumed(recovered), { signal });
    client.on('permissions', () => this.#onPermissions(), { signal });
    client.on('ice-servers', () => this.#onIceServers(), { signal });
    client.on('peer-joined', ({ peerId }) => this.#isMine(peerId) && this.#onSnapshot(), { signal });
    client.on('state', ({ state }) => state === 'closed' && this.close('left'), { signal });
    for (const name of /** @type {const} */ (['peer-updated', 'peer-detached', 'peer-attached'])) {
      client.on(name, ({ peerId }) => this.#isMine(peerId) && this.#updateInfo(), { signal });
    }
    this.pc.addEventListener('track', (event) => this.#onTrack(event), { signal });
    this.pc.addEventListener('datachannel', ({ channel }) => channel.label === LABEL && this.#onDataChannel(channel), { signal });
    this.pc.addEventListener('connectionstatechange', () => this.#onConnectionState(), { signal });
  }

  /** @param {string} peerId */
  #isMine(peerId) {
    return peerId === this.#info.peerId;
  }

  /** Combines the settings of server and application; `relay` wins, whichever asks for it. */
  #configuration() {
    const { iceServers = [], icePolicy = 'all' } = this.#client.self ?? {};
    const isRelay = icePolicy === 'relay' || this.#rtc.iceTransportPolicy === 'relay';
    return { iceServers, ...this.#rtc, iceTransportPolicy: /** @type {RTCIceTransportPolicy} */ (isRelay ? 'relay' : 'all') };
  }

  /** New credentials apply to later candidates only. A new policy needs an ICE restart. */
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
    this.#localTracks.setPermitted(this.#client.may('publish')).catch((error) => this.emit('error', error));
    const gainsData = this.#client.may('data') && !this.#mayUseData;
    this.#mayUseData = this.#client.may('data');
    if (!this.#mayUseData) this.dataChannel?.close();
    // Only once for each connection: if a data channel was closed, the next one crashes the
    // renderer process of Chromium.
    else if (gainsData && this.#wantsData && !this.#hadData) this.#openData();
    this.#negotiation.onPermissions();
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

  #updateInfo() {
    this.#info = this.#client.peers.get(this.peerId) ?? this.#info;
    this.emit('info', this.#info);
  }

  /** A new snapshot of the room arrived. Frames may be lost, so a present peer renegotiates. */
  #onSnapshot() {
    if (!this.#client.peers.has(this.peerId)) return this.#waitForReturn();
    clearTimeout(this.#missingTimer);
    this.#missingTimer = undefined;
    this.#updateInfo();
    void this.#negotiation.renegotiate();
  }

  #waitForReturn() {
    if (this.#missingTimer !== undefined) return;
    const end = Date.now() + MISSING_CONNECTED_MS;
    const check = () => {
      if (!this.#hasMedia() || Date.now() >= end) this.close('left');
      else this.#missingTimer = setTimeout(check, MISSING_MS);
    };
    this.#missingTimer = setTimeout(check, MISSING_MS);
  }

  /** Whether the media connection works and the peer has not closed it. */
  #hasMedia() {
    return this.pc.connectionState === 'connected' && this.dataChannel?.readyState !== 'closed';
  }

  /** @param {import('./send-queue.js').ClientFrame} frame */
  #post(frame) {
    const send = this.#client.post({ ...frame, to: this.peerId });
    send.done.catch((error) => this.#onSendFailed(error, frame.type));
    return send;
  }

  /** @param {SignalingError} error @param {string} type of the frame */
  #onSendFailed(error, type) {
    // The negotiation creates a refused description again.
    if (error.code === 'not_permitted' && type !== 'candidate') return;
    // `peer-left` may follow, or the peer is only missing for a moment.
    if (error.code === 'no_such_peer') this.#waitForReturn();
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
    this.#hadData = true;
    const onOpen = () => {
      this.dataChannel = channel;
      this.emit('datachannel', channel);
    };
    if (channel.readyState === 'open') onOpen();
    else channel.addEventListener('open', onOpen, { signal: this.#abort.signal });
  }

  #onConnectionState() {
    clearTimeout(this.#restartTimer);
    switch (this.pc.connectionState) {
      case 'connected':
        this.#wasConnected = true;
        return this.#setState('connected');
      case 'disconnected':
        this.#restartTimer = setTimeout(() => this.pc.restartIce(), DISCONNECTED_MS);
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
