/**
 * Makes a real allocation on each TURN server of one transport, and sends data through it: two
 * connections of this page, of which one may only use that server.
 */
import { stunServers, turnServers } from './ice-urls.js';

/** For the allocation, and as long again for the data. */
const DEADLINE_MS = 6_000;

/** Each costs two allocations. */
const MOST_SERVERS = 3;

/** The answers of a TURN server (RFC 8656, section 19), and the error of a browser for no answer. */
const FULL = [486, 508];
const NO_ANSWER = 701;

/** @type {Record<import('./ice-urls.js').Transport, string>} */
const URL_FORMS = { UDP: 'turn:HOST:3478?transport=udp', TCP: 'turn:HOST:3478?transport=tcp', TLS: 'turns:HOST:5349?transport=tcp' };

/**
 * @param {import('./ice-urls.js').Transport} transport
 * @param {import('./step-runner.js').Context} context
 * @returns {Promise<import('./step-runner.js').Result>}
 */
export async function checkTurn(transport, { access }) {
  if (!access) return { outcome: 'needs_login' };
  const { iceServers, icePolicy } = access;
  const servers = turnServers(iceServers, transport).slice(0, MOST_SERVERS);
  if (servers.length === 0) return missingResult(transport, access);
  const results = [];
  for (const server of servers) results.push(await tryServer(server, stunServers(iceServers), icePolicy, transport));
  const working = results.filter(({ outcome }) => outcome === 'relayed');
  const worst = results.find(({ outcome }) => outcome !== 'relayed');
  if (worst && working.length > 0) return { outcome: 'relayed_by_some', values: { working: working.length, count: servers.length, transport } };
  return /** @type {import('./step-runner.js').Result} */ (worst ?? working[0]);
}

/**
 * @param {import('./ice-urls.js').Transport} transport
 * @param {import('./step-runner.js').Access} access
 * @returns {import('./step-runner.js').Result}
 */
function missingResult(transport, { iceServers, icePolicy }) {
  const hasTurn = /** @type {const} */ (['UDP', 'TCP', 'TLS']).some((one) => turnServers(iceServers, one).length > 0);
  if (hasTurn) return { outcome: 'no_turn_url', values: { transport, form: URL_FORMS[transport] } };
  return { outcome: icePolicy === 'relay' ? 'no_turn_but_required' : 'no_turn' };
}

/**
 * @param {RTCIceServer} server
 * @param {RTCIceServer[]} stun
 * @param {RTCIceTransportPolicy} icePolicy of the other connection, as of the other peer of a call
 * @param {import('./ice-urls.js').Transport} transport
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function tryServer(server, stun, icePolicy, transport) {
  /** @type {RTCPeerConnection[]} */
  const connections = [];
  try {
    connections.push(new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: 'relay' }));
    connections.push(new RTCPeerConnection({ iceServers: [server, ...stun], iceTransportPolicy: icePolicy }));
  } catch {
    connections.forEach((pc) => pc.close());
    return { outcome: 'ice_url_refused' };
  }
  const [relayed, other] = /** @type {[RTCPeerConnection, RTCPeerConnection]} */ (connections);
  const allocation = watchAllocation(relayed, transport);
  /** @type {Promise<import('./step-runner.js').Result>} */
  const late = new Promise((resolve) => {
    setTimeout(() => {
      const why = allocation.result();
      if (why) resolve(why);
    }, DEADLINE_MS);
    setTimeout(() => resolve({ outcome: icePolicy === 'relay' ? 'no_data_but_required' : 'no_data' }), 2 * DEADLINE_MS);
  });
  try {
    return await Promise.race([sendData(relayed, other), allocation.failed, late]);
  } finally {
    relayed.close();
    other.close();
  }
}

/**
 * Watches whether the connection gets a relay candidate. `failed` resolves when it has got none;
 * `result` is why it has none, or null if it has one.
 *
 * @param {RTCPeerConnection} pc
 * @param {import('./ice-urls.js').Transport} transport
 */
function watchAllocation(pc, transport) {
  /** @type {number[]} */
  const errors = [];
  let isAllocated = false;
  pc.addEventListener('icecandidateerror', (event) => errors.push(/** @type {RTCPeerConnectionIceErrorEvent} */ (event).errorCode));
  /** @param {boolean} [isComplete] @returns {import('./step-runner.js').Result | null} */
  const result = (isComplete = false) => {
    if (isAllocated) return null;
    // Firefox before 150 does not say why.
    if (isComplete && errors.length === 0) return { outcome: 'no_relay_address' };
    if (errors.some((code) => FULL.includes(code))) return { outcome: 'turn_full' };
    if (errors.some((code) => code < NO_ANSWER)) return { outcome: 'turn_refused' };
    return transport === 'TLS' ? { outcome: 'turn_tls_unreachable' } : { outcome: 'turn_unreachable', values: { transport } };
  };
  /** @type {Promise<import('./step-runner.js').Result>} */
  const failed = new Promise((resolve) => {
    pc.addEventListener('icecandidate', ({ candidate }) => {
      isAllocated ||= candidate?.type === 'relay';
      const why = candidate === null ? result(true) : null;
      if (why) resolve(why);
    });
  });
  return { failed, result };
}

/**
 * Connects both, and sends a message to and fro.
 *
 * @param {RTCPeerConnection} relayed
 * @param {RTCPeerConnection} other
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function sendData(relayed, other) {
  for (const [pc, target] of [[relayed, other], [other, relayed]]) {
    // A candidate that the browser cannot use is no failure: another one may work.
    pc?.addEventListener('icecandidate', ({ candidate }) => void target?.addIceCandidate(candidate ?? undefined).catch(() => {}));
  }
  other.addEventListener('datachannel', ({ channel }) => channel.addEventListener('message', ({ data }) => channel.send(data)));
  const channel = relayed.createDataChannel('check');
  const echoed = new Promise((resolve) => {
    channel.addEventListener('open', () => {
      const sent = performance.now();
      channel.addEventListener('message', () => resolve(Math.max(1, Math.round(performance.now() - sent))));
      channel.send('check');
    });
  });
  const offer = await relayed.createOffer();
  // The other side knows the offer before the first candidate arrives.
  await other.setRemoteDescription(offer);
  await relayed.setLocalDescription(offer);
  await other.setLocalDescription();
  await relayed.setRemoteDescription(/** @type {RTCSessionDescription} */ (other.localDescription));
  return { outcome: 'relayed', values: { ms: /** @type {number} */ (await echoed) } };
}
