/**
 * One RTCPeerConnection to one peer of the room. Negotiates it, restarts ICE when the network
 * changes, and closes it when the peer leaves. Owns the connection. See negotiation.js for glare,
 * and local-tracks.js and remote-tracks.js for the media.
 */
import { SignalingError } from './signaling-error.js';
import { applyConfiguration } from './ice-servers.js';
import { LocalTracks } from './local-tracks.js';
import { Negotiation } from './negotiation.js';
import { withRuntime } from './option-checks.js';
import { RemoteTracks } from './remote-tracks.js';
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
 * @property {Map<string, MediaStreamTrack | null>} [tracks] `name/kind` → a track to send from the
 *   start, such as `video/video`
 * @property {RTCConfiguration} [rtc] added to the ICE configuration of the server
 * @property {boolean} [dataChannel] whether the impolite side opens {@link Peer.dataChannel}; it
 *   also connects two peers that send no media
 * @property {typeof RTCPeerConnection} [RTCPeerConnection] these two replace those of the runtime
 * @property {typeof MediaStream} [MediaStream]
 *
 * @typedef {import('./connection-report.js').Trouble} Trouble
 * @typedef {import('./connection-report.js').Diagnosis} Diagnosis
 *
 * @typedef {object} PeerEvents a late listener of the first five and of `closed` gets what is so now
 * @property {PeerState} state
 * @property {Trouble} trouble why there is no connection, four seconds after its start or its loss;
 *   again when the code changes, and with the code null when the peers are connected
 * @property {RTCPeerConnection} connection {@link Peer.pc} is this one now
 * @property {RTCTrackEvent} track a new track arrives
 * @property {RTCDataChannel} datachannel {@link Peer.dataChannel} is open
 * @property {ReadonlyMap<string, MediaStream>} tracks a track was added or removed; the detail is
 *   {@link Peer.streams}
 * @property {any} message data that the peer sent with {@link Peer.send} or `room.send`
 * @property {import('./requests.js').Envelope} exchange a request or an answer, for requests.js
 * @property {PeerEntry} info the peer changed its name or metadata, or was detached or attached
 * @property {unknown} error
 * @property {string} closed the reason
 */

/** Many connections recover within this time, and an earlier ICE restart would cost more. */
const DISCONNECTED_MS = 3_000;

/**
 * The least time between two ICE restarts. A relay server that denies the other peer lets ICE fail
 * at once, and each restart takes an allocation of its quota.
 */
const RESTART_MS = 3_000;

/**
 * After a store has lost its data, each node writes its own peers again. So a peer that is missing
 * from a snapshot may return soon, and its media has not stopped.
 */
const MISSING_MS = 5_000;

/** A peer with working media gets more time to return, but not without a limit. */
const MISSING_CONNECTED_MS = 45_000;

/** ICE itself fails sooner, if it has candidates to check. Without a candidate it never fails. */
const ROUTE_MS = 20_000;

/** After so many ICE restarts without success, both sides make a new connection. */
const MAX_RESTARTS = 3;

/** The label of {@link Peer.dataChannel}. */
const LABEL = 'signalbox';

/** @extends {TypedEmitter<PeerEvents>} */
export class Peer extends TypedEmitter {
  /** @readonly @type {string} */
  peerId;
  /** See the event `connection`. @type {RTCPeerConnection} */
  pc;
  /** One channel for the application; null until it is open. @type {RTCDataChannel | null} */
  dataChannel = null;
  /** @type {PeerState} */
  state = 'connecting';
  /** See the event `trouble`. @type {Trouble} */
  trouble = { code: null };
  #wasConnected = false;
  /** The public record of the peer. @type {PeerEntry} */
  info;
  /** Until the next ICE restart, while there is no connection. @type {ReturnType<typeof setTimeout> | undefined} */
  #repairTimer;
  #restartedAt = -Infinity;
  /** How many ICE restarts had no success so far. */
  #restarts = 0;
  /** @type {string | undefined} */
  #closeReason;
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
  #remoteTracks;
  #options;
  /** Whether the options ask for a {@link dataChannel}. */
  #wantsData;
  #mayUseData;
  /** Whether a data channel was created on this connection. */
  #hadData = false;
  #icePolicy;
  /** What the ICE servers have answered. @type {RTCPeerConnectionIceErrorEvent[]} */
  #iceErrors = [];
  #connectionReport;
  #report = (/** @type {unknown} */ error) => this.emit('error', error);

  /** @param {PeerOptions} given */
  constructor(given) {
    super();
    const options = withRuntime(given, 'RTCPeerConnection', 'MediaStream');
    const { client, peerId, tracks, dataChannel = true, MediaStream } = options;
    const info = client.peers.get(peerId);
    if (!info) throw new SignalingError('no_such_peer', 'The peer is not in the room.');
    this.#client = client;
    this.info = info;
    this.peerId = peerId;
    this.#options = options;
    this.#icePolicy = client.self?.icePolicy;
    this.#wantsData = dataChannel;
    this.#mayUseData = client.may('data');
    this.pc = this.#createConnection();
    this.#remoteTracks = new RemoteTracks(this.pc, {
      MediaStream,
      onTrack: (event) => this.emit('track', event),
      onChange: () => this.emit('tracks', this.streams),
      signal: this.#abort.signal,
    });
    this.#localTracks = new LocalTracks(this.pc, (permission) => client.may(permission), MediaStream, new Map(tracks));
    this.#negotiation = new Negotiation({
      pc: this.pc,
      polite: info.polite,
      post: (frame) => this.#post(frame),
      onError: this.#report,
      replaceConnection: () => this.#replaceConnection(),
      isReachable: () => this.#isReachable,
      mayUseData: () => client.may('data'),
    });
    this.#listen();
    this.#prepareOffer();
    const since = performance.now();
    // Loaded while the peers negotiate, so a page does not wait for it.
    this.#connectionReport = import('./connection-report.js').then(({ ConnectionReport }) => new ConnectionReport(this, {
      client,
      since,
      errors: this.#iceErrors,
      onTrouble: (trouble) => this.emit('trouble', (this.trouble = trouble)),
      restartIce: () => {
        // Media has arrived since the last restart, so that one was a success.
        this.#restarts = 0;
        this.#restartIce();
      },
    }));
    // A call connects without it.
    this.#connectionReport.catch(() => {});
  }

  /** Whether this side and the peer are both connected, as far as this side knows. */
  get #isReachable() {
    return this.#client.state === 'open' && !this.info.detached;
  }

  /** The name of the peer, or its user if it gave no name. */
  get name() {
    return this.info.name || this.info.userId;
  }

  /**
   * The microphone and camera of the peer: all live tracks that belong to no named stream. Tracks
   * change, the stream stays the same.
   */
  get stream() {
    return this.#remoteTracks.stream;
  }

  /** Name or stream id → the live tracks that the other side sends together, such as `screen`. */
  get streams() {
    return this.#remoteTracks.streams;
  }

  /** Sends a message. @param {unknown} data any JSON */
  send(data) {
    return this.#client.message(data, this.peerId);
  }

  /**
   * Sends this track instead of the current one of this name and kind; null stops sending all tracks
   * of this name. Without the permission `publish`, the track is sent when this peer gets it. A second
   * video needs `share`.
   *
   * @param {string} name `audio`, `video`, or another name for further tracks, such as `screen`: the
   *   other side gets them as {@link streams}
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(name, track) {
    await this.#localTracks.setTrack(name, track);
    this.#negotiation.onChange();
  }

  /**
   * What this connection uses, or why there is none: the selected pair, the types of the candidates,
   * the errors of the ICE servers, and the round trip. Without addresses.
   *
   * @returns {Promise<Diagnosis>}
   */
  diagnose() {
    return this.#connectionReport.then((report) => report.diagnose());
  }

  /** @param {string} [reason] */
  close(reason = 'closed') {
    if (this.state === 'closed') return;
    this.#abort.abort();
    clearTimeout(this.#repairTimer);
    clearTimeout(this.#missingTimer);
    this.#negotiation.stop();
    this.pc.close();
    this.#closeReason = reason;
    this.#setState('closed');
    this.emit('closed', reason);
  }

  /** @protected @override @param {string} name */
  past(name) {
    const { pc, dataChannel, trouble } = this;
    /** @type {Record<string, unknown[]>} */
    const past = {
      state: [this.state],
      trouble: trouble.code ? [trouble] : [],
      connection: [pc],
      track: this.#remoteTracks.events,
      datachannel: dataChannel ? [dataChannel] : [],
      closed: this.#closeReason ? [this.#closeReason] : [],
    };
    return past[name] ?? [];
  }

  #listen() {
    const client = this.#client;
    /** @param {(detail: any) => void} listener @param {(keyof import('./client.js').ClientEvents)[]} names */
    const on = (listener, ...names) => {
      for (const name of names) client.on(name, listener, this.#abort);
    };
    /** @param {{ peerId: string }} detail */
    const isMine = ({ peerId }) => peerId === this.peerId;
    on((frame) => frame.from === this.peerId && void this.#negotiation.receive(frame), 'offer', 'answer', 'pranswer', 'rollback', 'candidate');
    on(({ from, data }) => from === this.peerId && this.emit(data?.signalbox ? 'exchange' : 'message', data), 'message');
    on((left) => isMine(left) && this.close(left.reason), 'peer-left');
    // This client is a new peer now, so the negotiation of the old one is over.
    on(() => this.close('session_gone'), 'joined', 'lobby');
    on(({ recovered }) => this.#onResumed(recovered), 'resumed');
    on(() => this.#onPermissions(), 'permissions');
    on(() => this.#onIceServers(), 'ice-servers');
    on((joined) => isMine(joined) && this.#onSnapshot(), 'peer-joined');
    on(({ state }) => state === 'closed' && this.close('left'), 'state');
    on((changed) => isMine(changed) && this.#updateInfo(), 'peer-updated', 'peer-detached', 'peer-attached');
  }

  #createConnection() {
    // The AbortController stands for `{ signal }`.
    const pc = this.#configure((configuration) => new this.#options.RTCPeerConnection(configuration));
    pc.addEventListener('datachannel', ({ channel }) => channel.label === LABEL && this.#onDataChannel(channel), this.#abort);
    pc.addEventListener('icecandidateerror', (event) => this.#iceErrors.push(event), this.#abort);
    pc.addEventListener('connectionstatechange', () => this.#onConnectionState(), this.#abort);
    this.#repairIn(ROUTE_MS);
    return pc;
  }

  /** Creates what this side offers. */
  #prepareOffer() {
    const { polite } = this.info;
    // Only the impolite side opens it, because that side never rolls back. After the rollback of an
    // offer with a data channel, Chromium cannot start SCTP.
    if (this.#wantsData && !polite && this.#mayUseData) this.#openData();
    // The impolite side must offer first, so without tracks it offers to receive.
    if (!polite && !this.#client.may('publish')) this.#localTracks.addReceivers();
    this.#localTracks.applyAll().catch(this.#report);
  }

  #replaceConnection() {
    const pc = this.#createConnection();
    this.pc.close();
    this.pc = pc;
    this.#hadData = false;
    this.dataChannel = null;
    if (this.state === 'connected') this.#setState('reconnecting');
    this.#remoteTracks.connect(pc);
    this.#localTracks.connect(pc);
    this.#prepareOffer();
    this.emit('connection', pc);
    return pc;
  }

  /**
   * Applies the settings of server and application, without the ICE servers that this browser
   * refuses. `relay` wins, whichever of the two asks for it.
   *
   * @template T
   * @param {(configuration: RTCConfiguration) => T} apply
   */
  #configure(apply) {
    // A peer ends when its client is not in the room any more.
    const { iceServers, icePolicy } = /** @type {import('./messages.js').Joined} */ (this.#client.self);
    const { rtc, RTCPeerConnection } = this.#options;
    const iceTransportPolicy = rtc?.iceTransportPolicy === 'relay' ? 'relay' : icePolicy;
    // The application has no listener before the constructor returns.
    return applyConfiguration({ iceServers, ...rtc, iceTransportPolicy }, apply, RTCPeerConnection, (error) => queueMicrotask(() => this.#report(error)));
  }

  /** New credentials apply to later candidates only. A new policy needs an ICE restart. */
  #onIceServers() {
    const icePolicy = this.#client.self?.icePolicy;
    try {
      this.#configure((configuration) => this.pc.setConfiguration(configuration));
    } catch (error) {
      this.#report(error);
    }
    if (icePolicy !== this.#icePolicy) this.#restartIce();
    this.#icePolicy = icePolicy;
  }

  #onPermissions() {
    this.#localTracks.applyAll().catch(this.#report);
    const gainsData = this.#client.may('data') && !this.#mayUseData;
    this.#mayUseData = this.#client.may('data');
    if (!this.#mayUseData) this.dataChannel?.close();
    // Only once for each connection: if a data channel was closed, the next one crashes the
    // renderer process of Chromium.
    else if (gainsData && this.#wantsData && !this.#hadData) this.#openData();
    this.#negotiation.onChange();
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
    this.info = this.#client.peers.get(this.peerId) ?? this.info;
    this.emit('info', this.info);
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
    const end = performance.now() + MISSING_CONNECTED_MS;
    const check = () => {
      // Whether the media connection works and the peer has not closed it.
      const hasMedia = this.pc.connectionState === 'connected' && this.dataChannel?.readyState !== 'closed';
      if (!hasMedia || performance.now() >= end) this.close('left');
      else this.#missingTimer = setTimeout(check, MISSING_MS);
    };
    this.#missingTimer ??= setTimeout(check, MISSING_MS);
  }

  /** @param {import('./send-queue.js').ClientFrame} frame */
  #post(frame) {
    if (typeof frame.sdp === 'string') frame.sdp = this.#localTracks.nameStreams(frame.sdp);
    const send = this.#client.post({ ...frame, to: this.peerId });
    // `peer-left` may follow, or the peer is only missing for a moment. The negotiation handles
    // other errors.
    send.done.catch(({ code }) => code === 'no_such_peer' && this.#waitForReturn());
    return send;
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

  /** @param {number} ms */
  #repairIn(ms) {
    clearTimeout(this.#repairTimer);
    this.#repairTimer = setTimeout(() => this.#repair(), ms);
  }

  /** ICE has failed; or the description has been agreed, and no candidate led to the peer. */
  #repair() {
    const { connectionState, signalingState, remoteDescription } = this.pc;
    this.#repairIn(ROUTE_MS);
    const hasEnded = ['disconnected', 'failed'].includes(connectionState);
    if (!hasEnded && (signalingState !== 'stable' || !remoteDescription || !this.#isReachable)) return;
    this.#restartIce();
    this.#setLost();
  }

  #setLost() {
    this.#setState(this.#wasConnected ? 'reconnecting' : 'failed');
  }

  #onConnectionState() {
    const { connectionState } = this.pc;
    if (connectionState === 'connected') {
      this.#wasConnected = true;
      this.#restarts = 0;
      clearTimeout(this.#repairTimer);
      this.#setState('connected');
    } else if (connectionState === 'disconnected') {
      this.#client.wake();
      this.#repairIn(DISCONNECTED_MS);
      this.#setState('reconnecting');
    } else if (connectionState === 'failed') {
      this.#repairIn(Math.max(0, this.#restartedAt + RESTART_MS - performance.now()));
      this.#setLost();
    }
  }

  /**
   * Restarts ICE. If that had no success several times, the impolite side makes a new connection
   * instead, and its offer tells the other side to do the same.
   */
  #restartIce() {
    this.#restartedAt = performance.now();
    this.#restarts += 1;
    if (this.#restarts > MAX_RESTARTS && !this.info.polite && this.#isReachable) {
      this.#restarts = 0;
      void this.#negotiation.startAgain();
    } else {
      this.pc.restartIce();
      this.#negotiation.onChange();
    }
  }

  /** @param {PeerState} state */
  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.emit('state', state);
  }
}
