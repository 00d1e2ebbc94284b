// A real TURN server (coturn), real browsers: the credentials that the server mints open it, for as long as they say.

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../edge/harness.mjs';
import { Crowd, until } from './people.mjs';
import { Embedded, Site } from './servers.mjs';

const secret = () => randomBytes(32).toString('hex');

/** coturn on a free port, UDP and TCP, with these secrets; it relays to loopback, which in production it must not. */
async function turnServer(site, secrets) {
  const port = await freePort();
  const child = site.start('coturn', 'turnserver', [
    ...['-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`, '--min-port=50000', '--max-port=50999'],
    ...['--use-auth-secret', ...secrets.map((one) => `--static-auth-secret=${one}`), '--realm=signalbox.test', '--fingerprint', '--stale-nonce=600'],
    ...['--allow-loopback-peers', '--no-multicast-peers', '--no-tls', '--no-dtls', '--no-cli', '--no-rfc5780'],
    ...[`--userdb=${site.dir}/turndb`, `--pidfile=${site.dir}/turn.pid`, '--log-file=stdout', '--simple-log'],
  ]);
  const answers = () =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.end() && resolve(true)).on('error', () => resolve(false));
    });
  await until('coturn listens', () => child.exitCode === null && answers());
  return port;
}

const KEY = `backend:${secret()}`;

/** Signalbox whose guests may use this TURN server and nothing else; its speakers may use anything. */
function signalbox(site, name, { urls, secrets, ttl = '1h' }) {
  const file = join(site.dir, `${name}.toml`);
  const lines = ['[ice]', `turn_ttl = "${ttl}"`, '[[ice.turn]]', `urls = ${JSON.stringify(urls)}`];
  const role = (role, ice) => [`[roles.${role}]`, 'permissions = ["publish", "message", "share", "data"]', `ice = "${ice}"`];
  writeFileSync(file, [...lines, ...role('guest', 'relay'), ...role('speaker', 'all'), ''].join('\n'));
  return Embedded.start(site, { SIGNALBOX_TURN_SECRETS: secrets.join(','), SIGNALBOX_API_KEYS: KEY }, ['--config', file]);
}

/** Runs in every page of one who uses every candidate there is, whatever it was told. */
function useEverything() {
  const all = (configuration) => ({ ...configuration, iceTransportPolicy: 'all' });
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(all(configuration));
    }
    setConfiguration(configuration) {
      super.setConfiguration(all(configuration));
    }
  };
}

/** Every candidate in some frames, with what stands behind its type: trickled and in descriptions. */
const candidatesIn = (frames) => frames.flatMap((text) => text.match(/candidate:[^"\\]*? typ [^"\\]*/g) ?? []);

/** Runs in a page: of every open connection, how both sides are reached. */
const routes = async () =>
  Promise.all(
    connectionsMade
      .filter(({ connectionState }) => connectionState !== 'closed')
      .map(async (pc) => {
        const stats = await pc.getStats();
        const transport = [...stats.values()].find(({ type }) => type === 'transport');
        const pair = stats.get(transport?.selectedCandidatePairId);
        const [near, far] = [stats.get(pair?.localCandidateId), stats.get(pair?.remoteCandidateId)];
        return [near?.candidateType, near?.relayProtocol, far?.candidateType].join(' ');
      }),
  );

/** Runs in a page: gathers relayed candidates with these servers; how many there are, and what went wrong. */
const gather = async (iceServers) => {
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: 'relay' });
  const found = { candidates: 0, errors: [] };
  pc.onicecandidate = ({ candidate }) => (found.candidates += candidate?.candidate ? 1 : 0);
  pc.onicecandidateerror = ({ errorCode }) => found.errors.push(errorCode);
  pc.createDataChannel('x');
  await pc.setLocalDescription();
  const end = Date.now() + 10_000;
  while (pc.iceGatheringState !== 'complete' && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  pc.close();
  return found;
};

/** Runs in a page: joins, connects two peers of its own through the relay, waits for new credentials, and restarts ICE with them. */
const restartWithPushed = async (token) => {
  const frames = [];
  const wake = [];
  const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws/signal?token=${token}`, ['signalbox.v1']);
  socket.onmessage = ({ data }) => (frames.push(JSON.parse(data)), wake.splice(0).forEach((resolve) => resolve()));
  const next = async (type) => {
    for (;;) {
      const frame = frames.find((frame) => frame.type === type);
      if (frame) return frame;
      await new Promise((resolve) => wake.push(resolve));
    }
  };
  const { iceServers, icePolicy } = await next('joined');
  const pair = [0, 1].map(() => new RTCPeerConnection({ iceServers, iceTransportPolicy: icePolicy }));
  const names = new Set();
  for (const [pc, other] of [pair, [...pair].reverse()]) {
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) names.add(`${candidate.type} ${candidate.usernameFragment}`);
      other.addIceCandidate(candidate);
    };
  }
  const channel = pair[0].createDataChannel('x');
  const negotiate = async () => {
    await pair[0].setLocalDescription();
    await pair[1].setRemoteDescription(pair[0].localDescription);
    await pair[1].setLocalDescription();
    await pair[0].setRemoteDescription(pair[1].localDescription);
  };
  const settled = async (before) => {
    const end = Date.now() + 10_000;
    const fine = () => pair.every(({ iceConnectionState }) => ['connected', 'completed'].includes(iceConnectionState));
    while (!(fine() && names.size > before) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    return pair.map(({ iceConnectionState }) => iceConnectionState);
  };
  await negotiate();
  const first = await settled(0);
  const pushed = await next('ice-servers');
  // Those of the begin have ended by then, by coturn's clock too, which ticks once a second.
  const [end] = iceServers[0].username.split(':');
  while (Date.now() <= end * 1000 + 2000) await new Promise((resolve) => setTimeout(resolve, 50));
  const latest = frames.filter(({ type }) => type === 'ice-servers').at(-1);
  for (const pc of pair) pc.setConfiguration({ iceServers: latest.iceServers, iceTransportPolicy: latest.icePolicy });
  const before = names.size;
  pair[0].restartIce();
  await negotiate();
  const second = await settled(before);
  const open = channel.readyState;
  const old = iceServers;
  for (const pc of pair) pc.close();
  socket.close();
  return { first, second, open, old, pushed, types: [...new Set([...names].map((name) => name.split(' ')[0]))] };
};

/** Runs in a page: one who does not keep to `icePolicy` sends all its candidates to another, who writes down what comes over the wire. */
const leak = async (tokens) => {
  const enter = async (token) => {
    const wire = [];
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws/signal?token=${token}`, ['signalbox.v1']);
    const came = (type) =>
      new Promise((resolve) => {
        const look = () => wire.map((text) => JSON.parse(text)).find((frame) => frame.type === type);
        if (look()) return resolve(look());
        socket.addEventListener('message', () => look() && resolve(look()));
      });
    socket.addEventListener('message', ({ data }) => wire.push(data));
    return { socket, wire, came, joined: await came('joined') };
  };
  const watcher = await enter(tokens[0]);
  const sender = await enter(tokens[1]);
  const to = watcher.joined.peerId;
  let id = 0;
  const send = (message) => sender.socket.send(JSON.stringify({ to, id: ++id, ...message }));
  const pc = new RTCPeerConnection({ iceServers: sender.joined.iceServers });
  const own = new Set();
  pc.onicecandidate = ({ candidate }) => {
    if (!candidate) return;
    if (candidate.candidate) own.add(candidate.type);
    send({ type: 'candidate', candidate: candidate.toJSON() });
  };
  pc.createDataChannel('x');
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== 'complete') await new Promise((resolve) => setTimeout(resolve, 20));
  send({ type: 'offer', sdp: pc.localDescription.sdp });
  await watcher.came('offer');
  pc.close();
  for (const { socket } of [watcher, sender]) socket.close();
  return { own: [...own].sort(), wire: watcher.wire };
};

describe('a TURN server', () => {
  const site = new Site();
  const [current, next, foreign] = [secret(), secret(), secret()];
  let crowd;
  let port;
  let origin;

  const url = (transport) => `turn:127.0.0.1:${port}?transport=${transport}`;

  before(async () => {
    crowd = await Crowd.gather();
    // In a rotation it knows both.
    port = await turnServer(site, [current, next]);
    origin = (await signalbox(site, 'plain', { urls: [url('udp')], secrets: [next, current] })).origin;
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });

  for (const transport of ['udp', 'tcp']) {
    it(`carries a call of two who may only be relayed, over ${transport}`, async () => {
      const server = await signalbox(site, transport, { urls: [url(transport)], secrets: [current] });
      const [ada, grace] = [await crowd.joins(server.origin, 'r', 'Ada'), await crowd.joins(server.origin, 'r', 'Grace')];
      assert.equal(ada.joined[0].icePolicy, 'relay');
      await Promise.all([ada.receives(1), grace.receives(1)]);
      for (const person of [ada, grace]) assert.deepEqual(await person.page.evaluate(routes), [`relay ${transport} relay`]);
      assert.deepEqual(await crowd.disperse(), []);
    });
  }

  /** A page of the server, without the call. */
  const blank = async (at = origin) => {
    const person = await crowd.person();
    await person.page.goto(`${at}/client/index.js`);
    return person.page;
  };

  const credential = (key, end) => {
    const username = `${Math.floor(Date.now() / 1000) + end}:somebody`;
    return [{ urls: [url('udp')], username, credential: createHmac('sha1', key).update(username).digest('base64') }];
  };

  it('is all that others hear of who may only be relayed, whatever it sends', async () => {
    const page = await blank();
    const ask = () => fetch(`${origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"room":"wire"}' });
    const tokens = [(await (await ask()).json()).token, (await (await ask()).json()).token];
    const { own, wire } = await page.evaluate(leak, tokens);
    assert.deepEqual(own, ['host', 'relay'], 'it had more to tell');
    const told = wire.join('\n');
    assert.match(told, /typ relay/);
    assert.doesNotMatch(told, /typ (host|srflx|prflx)/);
    const offer = wire.map((text) => JSON.parse(text)).find(({ type }) => type === 'offer');
    assert.match(offer.sdp, /a=candidate:.* typ relay raddr 0\.0\.0\.0 rport/);
    await crowd.disperse();
  });

  it('is all that one who may only be relayed hears of another who uses everything, and they see each other', async () => {
    const [grace, ada] = [await crowd.person(), await crowd.person()];
    const [heard, told] = [[], []];
    grace.page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => heard.push(payload)));
    ada.page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => told.push(payload)));
    await ada.page.addInitScript(useEverything);
    await ada.hasRole('speaker', KEY);
    await grace.joins(origin, 'mixed', 'Grace');
    await ada.joins(origin, 'mixed', 'Ada');
    assert.deepEqual([grace.joined[0].icePolicy, ada.joined[0].icePolicy], ['relay', 'all']);
    await Promise.all([ada.receives(1), grace.receives(1)]);
    assert.match((await grace.page.evaluate(routes))[0], /^relay udp /);
    assert.ok(candidatesIn(told).some((candidate) => / typ host/.test(candidate)), 'it had more to tell');
    assert.ok(candidatesIn(heard).length > 0);
    for (const candidate of candidatesIn(heard)) assert.match(candidate, / typ relay raddr (0\.0\.0\.0|::) rport (0|9)\b/);
    assert.doesNotMatch(heard.join('\n'), /typ (host|srflx|prflx)/);
    assert.deepEqual(await crowd.disperse(), []);
  });

  it('refuses a credential that has ended, and one of another secret', async () => {
    const page = await blank();
    assert.deepEqual(await page.evaluate(gather, credential(current, 60)), { candidates: 1, errors: [] }, 'one as it should be');
    for (const bad of [credential(current, -1), credential(foreign, 60)]) {
      const found = await page.evaluate(gather, bad);
      assert.equal(found.candidates, 0);
      assert.ok(found.errors.includes(401), JSON.stringify(found));
    }
    await crowd.disperse();
  });

  it('takes the credentials of GET /auth/ice, of either secret while they are exchanged', async () => {
    const page = await blank();
    const token = (await (await fetch(`${origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"room":"r"}' })).json()).token;
    const told = await (await fetch(`${origin}/auth/ice`, { headers: { Authorization: `Bearer ${token}` } })).json();
    assert.deepEqual([told.icePolicy, told.expiresIn], ['relay', 3600]);
    assert.equal((await page.evaluate(gather, told.iceServers)).candidates, 1);
    await crowd.disperse();
  });

  it('is open to what is pushed after what came with joined has ended', async () => {
    const server = await signalbox(site, 'short', { urls: [url('udp')], secrets: [current], ttl: '8s' });
    const body = JSON.stringify({ room: 'r' });
    const answer = await fetch(`${server.origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    const page = await blank(server.origin);
    const story = await page.evaluate(restartWithPushed, (await answer.json()).token);
    assert.deepEqual([story.open, story.types], ['open', ['relay']], JSON.stringify(story));
    for (const states of [story.first, story.second]) assert.ok(states.every((state) => ['connected', 'completed'].includes(state)), JSON.stringify(story));
    assert.equal(story.pushed.expiresIn, 8000);
    const late = await page.evaluate(gather, story.old);
    assert.equal(late.candidates, 0, 'what came with joined opens nothing any more');
    await crowd.disperse();
  });
});
