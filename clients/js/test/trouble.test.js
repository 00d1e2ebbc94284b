/** Why there is no connection: the rules, and when a peer and the server are told. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { explain, TROUBLE_CODES } from '../src/codes.js';
import { ConnectionReport } from '../src/connection-report.js';
import { findTrouble, parseServer } from '../src/trouble.js';
import { TypedEmitter } from '../src/typed-emitter.js';
import { mockTime, restoreTime } from './mock-time.js';
import { settle } from './scripted-rtc.js';

const STUN = 'stun:stun.example';
const TURN = 'turn:relay.example:3478';
const TURN_TCP = 'turn:relay.example:3478?transport=tcp';
const TURN_TLS = 'turns:relay.example:443?transport=tcp';

const error = (url, errorCode) => ({ url, errorCode });
const code = ({ servers = [], ...more }) =>
  findTrouble({ hasAnswer: true, local: ['host'], remote: ['host'], errors: [], hasGathered: true, relayOnly: false, knowsErrors: true, servers: servers.map(parseServer), ...more });

test('the most telling cause is named', () => {
  for (const [expected, findings] of [
    ['answer_missing', { hasAnswer: false, local: [], servers: [TURN], errors: [error(TURN, 401)] }],
    ['no_candidates', { local: [] }],
    ['no_candidates', { local: [], servers: [TURN], errors: [error(TURN, 701)] }],
    ['no_candidates', { local: [], servers: [TURN], relayOnly: true }],
    ['no_path', { local: ['host', 'relay'], servers: [TURN, TURN_TCP], errors: [error(TURN_TCP, 401)] }],
    ['turn_refused', { servers: [TURN], errors: [error(TURN, 701), error(TURN, 401)] }],
    ['turn_refused', { servers: [TURN], errors: [error(TURN, 486)] }],
    ['turn_refused', { local: [], relayOnly: true, servers: [TURN], errors: [error(TURN, 401)] }],
    ['turn_unreachable', { servers: [TURN], errors: [error(TURN, 701)] }],
    ['turn_unreachable', { servers: [TURN], hasGathered: false }],
    ['turn_unreachable', { servers: [STUN, TURN], local: ['host', 'srflx'], errors: [error(TURN, 701)] }],
    ['turn_unreachable', { servers: [TURN_TCP, TURN_TLS], remote: ['relay'], errors: [error(TURN_TCP, 701), error(TURN_TLS, 701)] }],
    ['turn_unreachable', { servers: [STUN, TURN], errors: [error(TURN, 701)] }],
    ['udp_blocked', { servers: [STUN, TURN], hasGathered: false }],
    ['udp_blocked', { servers: [STUN, TURN], errors: [error(STUN, 701), error(TURN, 701)] }],
    ['udp_blocked', { servers: [TURN], remote: ['host', 'relay'], errors: [error(TURN, 701)] }],
    ['udp_blocked', { servers: [TURN, TURN_TCP], remote: ['relay'], errors: [error(TURN, 701), error(TURN_TCP, 701)] }],
    ['no_relay', { servers: [STUN], errors: [error(STUN, 400)] }],
    ['no_relay', { servers: [STUN], hasGathered: false }],
    ['no_relay', { local: [], relayOnly: true }],
  ]) {
    assert.equal(code(findings), expected, JSON.stringify(findings));
  }
});

test('a browser that does not report errors cannot tell a refusal from no answer', () => {
  assert.equal(code({ servers: [TURN], knowsErrors: false }), 'turn_unreachable');
  assert.equal(code({ servers: [STUN, TURN], local: ['host', 'srflx'], knowsErrors: false }), 'turn_unreachable');
});

test('the URL of an ICE server says its kind, its host, and the protocol to it', () => {
  for (const [url, expected] of [
    [STUN, { isTurn: false, host: 'stun.example', protocol: 'udp' }],
    [TURN, { isTurn: true, host: 'relay.example', protocol: 'udp' }],
    [TURN_TCP, { isTurn: true, host: 'relay.example', protocol: 'tcp' }],
    [TURN_TLS, { isTurn: true, host: 'relay.example', protocol: 'tls' }],
    ['turn:[2001:db8::1]:3478?transport=udp', { isTurn: true, host: '[2001:db8::1]', protocol: 'udp' }],
    ['http://relay.example', undefined],
  ]) {
    assert.deepEqual(parseServer(url), expected, url);
  }
});

test('each code has a sentence for a user', () => {
  assert.equal(TROUBLE_CODES.length, 7);
  for (const code of TROUBLE_CODES) assert.match(explain({ code }), /^(The|This|There) .+\.$/, code);
  assert.equal(explain({ code: null }), '');
});

/** A peer whose connection waits for nothing but a way. */
class ScriptedPeer extends TypedEmitter {
  peerId = 'bob';
  state = 'connecting';
  trouble = { code: null };
  told = [];
  frames = [];
  pc = connection();
  client = { state: 'open', self: { features: ['outcome'] }, notify: (frame) => this.frames.push(frame) };
  iceErrors = [];

  past(name) {
    return { connection: [this.pc], state: [this.state] }[name] ?? [];
  }

  changes(state) {
    this.state = state;
    this.emit('state', state);
  }

  setTrouble(trouble) {
    this.trouble = trouble;
    this.told.push(trouble.code);
  }
}

function connection() {
  return Object.assign(new EventTarget(), {
    onicecandidateerror: null,
    iceGatheringState: 'complete',
    signalingState: 'stable',
    localDescription: { sdp: 'v=0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n' },
    remoteDescription: { sdp: 'v=0\r\na=candidate:1 1 udp 1 192.0.2.2 1 typ host\r\n' },
    stats: [],
    getConfiguration: () => ({ iceServers: [{ urls: TURN }] }),
    async getStats() {
      return new Map(this.stats.map((one) => [one.id, one]));
    },
  });
}

/** A selected pair whose own candidate is of a relay. */
const RELAYED = [
  { id: 'T', type: 'transport', selectedCandidatePairId: 'P' },
  { id: 'P', type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'R', currentRoundTripTime: 0.0314 },
  { id: 'L', type: 'local-candidate', candidateType: 'relay', protocol: 'udp', relayProtocol: 'tls', address: '192.0.2.1' },
  { id: 'R', type: 'remote-candidate', candidateType: 'host', protocol: 'udp', address: '192.0.2.2' },
];

function watch(change = () => {}) {
  const peer = new ScriptedPeer();
  change(peer);
  const { client, iceErrors: errors } = peer;
  const report = new ConnectionReport(peer, { client, since: performance.now(), errors, onTrouble: (trouble) => peer.setTrouble(trouble), restartIce: () => {} });
  return { peer, report, pc: peer.pc };
}

beforeEach(() => mockTime('setInterval'));
afterEach(restoreTime);

const tick = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};

const failed = (code, ms) => ({ type: 'outcome', peer: 'bob', result: 'failed', code, ms });

test('a trouble is told after four seconds, once, and withdrawn when the peers connect', async () => {
  const { peer, pc } = watch();
  peer.iceErrors.push(error(TURN, 401));
  await tick(3_900);
  assert.deepEqual([peer.told, peer.frames], [[], []]);
  await tick(100);
  assert.deepEqual([peer.told, peer.frames], [['turn_refused'], [failed('turn_refused', 4_000)]]);
  await tick(10_000);
  assert.equal(peer.told.length, 1);
  pc.stats = RELAYED;
  peer.changes('connected');
  await settle();
  assert.deepEqual(peer.told, ['turn_refused', null]);
  assert.deepEqual(peer.frames.slice(1), [{ type: 'outcome', peer: 'bob', result: 'connected', relayed: true, protocol: 'tls', ms: 14_000 }]);
});

test('another code is told to the page, and not to the server: the result is the same', async () => {
  const { peer, pc } = watch(({ pc }) => (pc.remoteDescription = null));
  await tick(4_000);
  pc.remoteDescription = connection().remoteDescription;
  await tick(500);
  assert.deepEqual(peer.told, ['answer_missing', 'turn_unreachable']);
  assert.deepEqual(peer.frames, [failed('answer_missing', 4_000)]);
});

test('a connection that works is reported once, and a short loss is not', async () => {
  const { peer, pc } = watch();
  pc.stats = RELAYED;
  for (const state of ['connected', 'reconnecting', 'connected']) {
    peer.changes(state);
    await tick(3_000);
  }
  peer.emit('closed', 'left');
  assert.deepEqual([peer.told, peer.frames.map(({ result }) => result)], [[], ['connected']]);
});

test('a loss is told after four seconds, and reported when it is for good', async () => {
  const { peer } = watch();
  peer.changes('connected');
  await tick(60_000);
  peer.changes('reconnecting');
  await tick(4_000);
  assert.deepEqual(peer.told, ['turn_unreachable']);
  assert.equal(peer.frames.length, 1);
  await tick(26_000);
  assert.deepEqual(peer.frames.at(-1), failed('turn_unreachable', 30_000));
  peer.changes('connected');
  await settle();
  assert.deepEqual([peer.frames.at(-1).result, peer.frames.at(-1).ms], ['connected', 30_000]);
});

test('a peer that leaves before it is connected is reported as closed, except to a new peer of this client', async () => {
  for (const [reason, results] of [['left', ['closed']], ['session_gone', []]]) {
    const { peer } = watch();
    await tick(1_000);
    peer.emit('closed', reason);
    await tick(10_000);
    assert.deepEqual([peer.told, peer.frames.map(({ result }) => result)], [[], results]);
  }
});

test('a server of an earlier release, or no connection to the server, gets no outcome', async () => {
  const old = watch(({ client }) => (client.self.features = []));
  const lost = watch(({ client }) => (client.state = 'waiting'));
  await tick(4_000);
  for (const { peer } of [old, lost]) assert.deepEqual([peer.told, peer.frames], [['turn_unreachable'], []]);
});

test('without signaling, the other page is not blamed for a missing answer', async () => {
  const { peer } = watch(({ pc, client }) => {
    pc.remoteDescription = null;
    client.state = 'waiting';
  });
  await tick(10_000);
  assert.deepEqual(peer.told, []);
});

test('an offer of an ICE restart gets time for its answer, and its servers get time to answer', async () => {
  const { peer, pc } = watch();
  peer.iceErrors.push(error(TURN, 401));
  await tick(4_000);
  pc.signalingState = 'have-local-offer';
  pc.iceGatheringState = 'gathering';
  for (const name of ['signalingstatechange', 'icegatheringstatechange']) pc.dispatchEvent(new Event(name));
  assert.equal(peer.iceErrors.length, 0, 'the answers of an earlier gathering do not count');
  await tick(1_500);
  assert.deepEqual(peer.told, ['turn_refused']);
  await tick(1_000);
  assert.deepEqual(peer.told, ['turn_refused', 'answer_missing']);
});

test('a connection without getConfiguration is judged by the ICE servers of the room', async () => {
  const { peer } = watch(({ pc, client }) => {
    pc.getConfiguration = undefined;
    client.self.iceServers = [];
  });
  await tick(4_000);
  assert.deepEqual(peer.told, ['no_relay']);
});

test('the longest time is an hour', async () => {
  const { peer } = watch(({ client }) => (client.state = 'waiting'));
  await tick(4_000_000);
  peer.client.state = 'open';
  await tick(500);
  assert.deepEqual(peer.frames, [failed('turn_unreachable', 3_600_000)]);
});

test('a diagnosis has types, protocols, errors and the round trip, and no address', async () => {
  const { peer, report, pc } = watch();
  pc.stats = RELAYED;
  peer.iceErrors.push(error(TURN, 401), error(TURN, 401), error(TURN_TLS, 701));
  assert.deepEqual(await report.diagnose(), {
    state: 'connecting',
    trouble: null,
    pair: { local: 'relay', remote: 'host', relayed: true, protocol: 'tls', roundTripMs: 31 },
    candidates: { local: ['relay udp'], remote: ['host udp'] },
    errors: [{ kind: 'turn', protocol: 'udp', code: 401 }, { kind: 'turn', protocol: 'tls', code: 701 }],
  });
  pc.stats = [];
  assert.equal((await report.diagnose()).pair, null);
});

test('a browser without the stats of a transport marks the selected pair', async () => {
  const { report, pc } = watch();
  const [, pair, ...candidates] = RELAYED;
  pc.stats = [{ ...pair, id: 'Q', localCandidateId: 'X' }, { ...pair, selected: true }, ...candidates];
  assert.equal((await report.diagnose()).pair.local, 'relay');
});
