/**
 * What a connection to a peer uses, and why there is none: the event `trouble` and `diagnose()` of a
 * `Peer`, and the outcomes that the server counts (docs/PROTOCOL.md, section 4.6). A peer loads this
 * module when it is made, so that a page does not wait for it. Owns one timer and what was reported.
 * Changes nothing of the connection. Nothing here has an address. It also starts the watch of a path.
 */
import { watchPath } from './path-watch.js';
import { candidateTypes, findTrouble, parseServer } from './trouble.js';

/**
 * @typedef {import('./peer.js').Peer} Peer
 * @typedef {import('./client.js').SignalingClient} SignalingClient
 * @typedef {import('./trouble.js').TroubleCode} TroubleCode
 * @typedef {{ code: TroubleCode | null }} Trouble null: the trouble is over
 *
 * @typedef {object} SelectedPair the way of the media
 * @property {string} local the type of the candidate of this side: `host`, `srflx`, `prflx`, `relay`
 * @property {string} remote that of the peer
 * @property {boolean} relayed
 * @property {string} protocol `udp`, `tcp` or `tls`; with a relay of this side the protocol to the relay
 * @property {number} [roundTripMs]
 *
 * @typedef {object} Diagnosis has no address and no name
 * @property {import('./peer.js').PeerState} state
 * @property {TroubleCode | null} trouble
 * @property {SelectedPair | null} pair null without a connection
 * @property {{ local: string[], remote: string[] }} candidates `type protocol`, such as `host udp`
 * @property {{ kind: 'stun' | 'turn', protocol: string, code: number }[]} errors of ICE servers; 701:
 *   no answer
 */

/** The time for a new connection, or for a lost one to return. The check and its report follow at once. */
const PATIENCE_MS = 4_000;

const INTERVAL_MS = 250;

/** After the start of a gathering, an answer of a server may be on its way. */
const GATHERING_MS = 2_000;

/** The time for the answer to an offer. */
const ANSWER_MS = 2_000;

/** A connection that has been lost for so long is lost for good. */
const LOST_MS = 30_000;

/** The longest time that the protocol knows. */
const MAX_MS = 3_600_000;

export class ConnectionReport {
  /** When the attempt to connect began: with the peer, or when the connection was lost. */
  #startedAt;
  #wasConnected = false;
  /** The result that the server knows. @type {'connected' | 'failed' | 'closed' | undefined} */
  #reported;
  #gatheringAt = -Infinity;
  #offeredAt = -Infinity;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #peer;
  #client;
  #errors;
  #onTrouble;
  #restartIce;
  #stopWatch = () => {};

  /**
   * @param {Peer} peer
   * @param {{ client: SignalingClient, since: number, errors: RTCPeerConnectionIceErrorEvent[],
   *   onTrouble: (trouble: Trouble) => void, restartIce: () => void }} options `since`: when the peer was
   *   made; `errors` of ICE servers: the peer adds them as they come; `restartIce`: no media
   *   arrives any more
   */
  constructor(peer, { client, since, errors, onTrouble, restartIce }) {
    this.#peer = peer;
    this.#client = client;
    this.#startedAt = since;
    this.#errors = errors;
    this.#onTrouble = onTrouble;
    this.#restartIce = restartIce;
    let pcs = 0;
    peer.on('connection', (pc) => {
      // What came before this module belongs to the first connection.
      if (pcs > 0) this.#errors.length = 0;
      pcs += 1;
      this.#listen(pc);
    });
    peer.on('state', (state) => this.#onState(state));
    peer.on('closed', (reason) => this.#onClosed(reason));
  }

  /** @returns {Promise<Diagnosis>} */
  async diagnose() {
    const { pc, state, trouble } = this.#peer;
    const stats = [...(await pc.getStats()).values()];
    const listCandidates = (/** @type {string} */ type) => unique(stats.filter((one) => one.type === type).map(({ candidateType, protocol }) => `${candidateType} ${protocol}`));
    return {
      state,
      trouble: trouble.code,
      pair: selectedPair(stats),
      candidates: { local: listCandidates('local-candidate'), remote: listCandidates('remote-candidate') },
      errors: this.#listErrors(),
    };
  }

  #listErrors() {
    const errors = this.#errors.flatMap(({ url, errorCode }) => {
      const server = parseServer(url);
      return server ? [{ kind: server.isTurn ? /** @type {const} */ ('turn') : /** @type {const} */ ('stun'), protocol: server.protocol, code: errorCode }] : [];
    });
    return unique(errors.map((error) => JSON.stringify(error))).map((text) => JSON.parse(text));
  }

  /** @param {RTCPeerConnection} pc */
  #listen(pc) {
    const isCurrent = () => pc === this.#peer.pc;
    pc.addEventListener('icegatheringstatechange', () => {
      if (pc.iceGatheringState !== 'gathering' || !isCurrent()) return;
      this.#errors.length = 0;
      this.#gatheringAt = performance.now();
    });
    pc.addEventListener('signalingstatechange', () => {
      if (pc.signalingState === 'have-local-offer' && isCurrent()) this.#offeredAt = performance.now();
    });
  }

  /** @param {import('./peer.js').PeerState} state */
  #onState(state) {
    this.#stopWatch();
    if (state === 'connected') {
      this.#wasConnected = true;
      this.#stopWatch = watchPath(this.#peer.pc, (seconds) => this.#onSilence(seconds));
      this.#stop();
      void this.#reportConnected();
    } else if (state !== 'closed' && !this.#timer) {
      if (this.#wasConnected) this.#startedAt = performance.now();
      this.#timer = setInterval(() => this.#check(), INTERVAL_MS);
      // In Node, a report keeps no process alive.
      /** @type {{ unref?: () => void }} */ (this.#timer).unref?.();
    }
  }

  /**
   * The network may have changed. Both sides notice it, and the impolite one begins: after glare of two
   * ICE restarts, Firefox receives nothing until the next restart.
   *
   * @param {number} seconds without media: 2, 3 and 6
   */
  #onSilence(seconds) {
    this.#client.wake();
    if ((seconds === 3) === this.#peer.info.polite) this.#restartIce();
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#peer.trouble.code) this.#onTrouble({ code: null });
  }

  #check() {
    const waitedMs = performance.now() - this.#startedAt;
    if (waitedMs < PATIENCE_MS) return;
    const code = this.#findTrouble();
    if (!code) return;
    if (code !== this.#peer.trouble.code) this.#onTrouble({ code });
    if (!this.#wasConnected || waitedMs >= LOST_MS) this.#report('failed', { code });
  }

  /** @returns {TroubleCode | undefined} undefined: not known yet, or any more */
  #findTrouble() {
    const { pc } = this.#peer;
    const now = performance.now();
    const waitsForAnswer = pc.signalingState === 'have-local-offer' && now - this.#offeredAt > ANSWER_MS;
    const hasAnswer = pc.remoteDescription !== null && !waitsForAnswer;
    // Without signaling, the peer cannot be blamed.
    if (!hasAnswer && this.#client.state !== 'open') return undefined;
    const hasGathered = pc.iceGatheringState === 'complete';
    if (hasAnswer && !hasGathered && now - this.#gatheringAt < GATHERING_MS) return undefined;
    const { iceServers = [], icePolicy } = this.#client.self ?? {};
    // A connection of another runtime may not have this method.
    const configuration = pc.getConfiguration?.() ?? { iceServers, iceTransportPolicy: icePolicy };
    const relayOnly = configuration.iceTransportPolicy === 'relay';
    const servers = (configuration.iceServers ?? []).flatMap(({ urls }) => [urls].flat()).flatMap((url) => parseServer(url) ?? []);
    return findTrouble({
      hasAnswer,
      local: candidateTypes(pc.localDescription),
      remote: candidateTypes(pc.remoteDescription),
      // A browser that needs a relay asks no other server.
      servers: servers.filter(({ isTurn }) => isTurn || !relayOnly),
      errors: this.#errors,
      hasGathered,
      relayOnly,
      knowsErrors: 'onicecandidateerror' in pc,
    });
  }

  async #reportConnected() {
    const ms = performance.now() - this.#startedAt;
    const stats = await this.#peer.pc.getStats().catch(() => new Map());
    const { relayed, protocol } = selectedPair([...stats.values()]) ?? {};
    if (this.#peer.state === 'connected') this.#report('connected', { relayed, protocol }, ms);
  }

  /** @param {string} reason */
  #onClosed(reason) {
    clearInterval(this.#timer);
    // To a new peer of this client, the other peer is another one.
    if (!this.#reported && reason !== 'session_gone') this.#report('closed', {});
  }

  /**
   * Tells the server, once for each change of the result.
   *
   * @param {'connected' | 'failed' | 'closed'} result
   * @param {{ code?: TroubleCode, relayed?: boolean, protocol?: string }} details
   * @param {number} [ms]
   */
  #report(result, details, ms = performance.now() - this.#startedAt) {
    if (result === this.#reported || this.#client.state !== 'open') return;
    this.#reported = result;
    if (!this.#client.self?.features.includes('outcome')) return;
    this.#client.notify({ type: 'outcome', peer: this.#peer.peerId, result, ...details, ms: Math.min(Math.round(ms), MAX_MS) });
  }
}

/** @template T @param {T[]} list */
function unique(list) {
  return [...new Set(list)];
}

/** @param {any[]} stats @returns {SelectedPair | null} */
function selectedPair(stats) {
  const selectedId = stats.find(({ type, selectedCandidatePairId }) => type === 'transport' && selectedCandidatePairId)?.selectedCandidatePairId;
  // Firefox before 153 has no such member, and marks the pair instead.
  const pair = stats.find((one) => one.type === 'candidate-pair' && (selectedId ? one.id === selectedId : (one.selected ?? (one.nominated && one.state === 'succeeded'))));
  const local = stats.find(({ id }) => id === pair?.localCandidateId);
  const remote = stats.find(({ id }) => id === pair?.remoteCandidateId);
  if (!local || !remote) return null;
  const types = [local.candidateType, remote.candidateType];
  const { currentRoundTripTime: seconds } = pair;
  return {
    local: types[0],
    remote: types[1],
    relayed: types.includes('relay'),
    protocol: local.relayProtocol ?? local.protocol,
    ...(seconds !== undefined && { roundTripMs: Math.round(seconds * 1000) }),
  };
}
