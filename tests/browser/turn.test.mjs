// A real TURN server (coturn) with real browsers: the credentials of the server work until they
// expire.

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freePort, stopProcess } from '../edge/harness.mjs';
import { SharedBrowser, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';
import { startTurnServer } from './turn-server.mjs';

const randomSecret = () => randomBytes(32).toString('hex');

const KEY = `backend:${randomSecret()}`;

/**
 * Starts a server whose guests may use only this TURN server; its speakers may use all candidates.
 */
function startSignalbox(site, name, { urls, secrets, ttl = '1h' }) {
  const file = join(site.dir, `${name}.toml`);
  const lines = ['[ice]', `turn_ttl = "${ttl}"`, '[[ice.turn]]', `urls = ${JSON.stringify(urls)}`];
  const role = (role, ice) => [`[roles.${role}]`, 'permissions = ["publish", "message", "share", "data"]', `ice = "${ice}"`];
  writeFileSync(file, [...lines, ...role('guest', 'relay'), ...role('speaker', 'all'), ''].join('\n'));
  return EmbeddedServer.start(site, { SIGNALBOX_TURN_SECRETS: secrets.join(','), SIGNALBOX_API_KEYS: KEY }, ['--config', file]);
}

/** Runs in the page: a peer that ignores `icePolicy` and uses all candidates. */
function ignoreIcePolicy() {
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

/** Returns all candidates in these frames, from candidate frames and descriptions. */
const candidatesIn = (frames) => frames.flatMap((text) => text.match(/candidate:[^"\\]*? typ [^"\\]*/g) ?? []);

/** Runs in a page: returns the selected candidate types of each open connection. */
const readRoutes = async () =>
  Promise.all(
    connectionsMade
      .filter(({ connectionState }) => connectionState !== 'closed')
      .map(async (pc) => {
        const stats = await pc.getStats();
        const transport = [...stats.values()].find(({ type }) => type === 'transport');
        const pair = stats.get(transport?.selectedCandidatePairId);
        const [local, remote] = [stats.get(pair?.localCandidateId), stats.get(pair?.remoteCandidateId)];
        return [local?.candidateType, local?.relayProtocol, remote?.candidateType].join(' ');
      }),
  );

/** Runs in a page: gathers relay candidates, and returns their number and the errors. */
const gatherRelayCandidates = async (iceServers) => {
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

/**
 * Runs in a page: connects two peers through the relay, and restarts ICE with pushed credentials.
 */
const restartWithPushedCredentials = async (token) => {
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
    const isConnected = () => pair.every(({ iceConnectionState }) => ['connected', 'completed'].includes(iceConnectionState));
    while (!(isConnected() && names.size > before) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    return pair.map(({ iceConnectionState }) => iceConnectionState);
  };
  await negotiate();
  const first = await settled(0);
  const pushed = await next('ice-servers');
  // Waits until the first credentials have expired; the clock of coturn ticks once a second.
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

/**
 * Runs in a page: a peer that ignores `icePolicy` sends all candidates; another records its frames.
 */
const sendAllCandidates = async (tokens) => {
  const joinPeer = async (token) => {
    const wire = [];
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws/signal?token=${token}`, ['signalbox.v1']);
    const waitForFrame = (type) =>
      new Promise((resolve) => {
        const findFrame = () => wire.map((text) => JSON.parse(text)).find((frame) => frame.type === type);
        if (findFrame()) return resolve(findFrame());
        socket.addEventListener('message', () => findFrame() && resolve(findFrame()));
      });
    socket.addEventListener('message', ({ data }) => wire.push(data));
    return { socket, wire, waitForFrame, joined: await waitForFrame('joined') };
  };
  const watcher = await joinPeer(tokens[0]);
  const sender = await joinPeer(tokens[1]);
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
  await watcher.waitForFrame('offer');
  pc.close();
  for (const { socket } of [watcher, sender]) socket.close();
  return { own: [...own].sort(), wire: watcher.wire };
};

describe('a TURN server', () => {
  const site = new TestSite();
  const [current, next, foreign] = [randomSecret(), randomSecret(), randomSecret()];
  let browser;
  let port;
  let origin;

  const url = (transport) => `turn:127.0.0.1:${port}?transport=${transport}`;

  before(async () => {
    browser = await SharedBrowser.launch();
    // During a rotation the TURN server accepts both secrets.
    port = await freePort();
    await startTurnServer(site, [current, next], port);
    origin = (await startSignalbox(site, 'plain', { urls: [url('udp')], secrets: [next, current] })).origin;
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });

  for (const transport of ['udp', 'tcp']) {
    it(`carries a call of two relay-only peers over ${transport}`, async () => {
      const server = await startSignalbox(site, transport, { urls: [url(transport)], secrets: [current] });
      const [ada, grace] = [await browser.joins(server.origin, 'r', 'Ada'), await browser.joins(server.origin, 'r', 'Grace')];
      assert.equal(ada.joined[0].icePolicy, 'relay');
      await Promise.all([ada.receives(1), grace.receives(1)]);
      for (const person of [ada, grace]) assert.deepEqual(await person.page.evaluate(readRoutes), [`relay ${transport} relay`]);
      assert.deepEqual(await browser.closePages(), []);
    });
  }

  it('that does not work is named on the page, and the call connects as soon as it works', async () => {
    const [relayPort, patience] = [await freePort(), 60_000];
    const server = await startSignalbox(site, 'broken', { urls: [`turn:127.0.0.1:${relayPort}?transport=udp`], secrets: [current] });
    const wrong = await startTurnServer(site, [foreign], relayPort);
    const [ada, grace] = [await browser.joins(server.origin, 'r', 'Ada'), await browser.joins(server.origin, 'r', 'Grace')];
    const reads = (person, selector, text) => until(`the page says: ${text}`, async () => (await person.page.textContent(selector)).includes(text), patience);
    await Promise.all([ada, grace].map((person) => reads(person, '.tile[data-peer-id] .tile-state', 'The relay server (TURN) refuses this server')));
    await stopProcess(wrong);
    await startTurnServer(site, [current], relayPort);
    await Promise.all([ada, grace].map((person) => reads(person, '.tile[data-peer-id][data-state=connected]', person === ada ? 'Grace' : 'Ada')));
    for (const person of [ada, grace]) assert.deepEqual(await person.page.evaluate(readRoutes), ['relay udp relay']);
    assert.deepEqual(await browser.closePages(), []);
  });

  /** Opens a page of the server without a call. */
  const openBlankPage = async (at = origin) => {
    const person = await browser.person();
    await person.page.goto(`${at}/client/index.js`);
    return person.page;
  };

  const createCredential = (key, lifetime) => {
    const username = `${Math.floor(Date.now() / 1000) + lifetime}:user`;
    return [{ urls: [url('udp')], username, credential: createHmac('sha1', key).update(username).digest('base64') }];
  };

  it('is the only address that others receive from a relay-only peer', async () => {
    const page = await openBlankPage();
    const requestToken = () => fetch(`${origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"room":"wire"}' });
    const tokens = [(await (await requestToken()).json()).token, (await (await requestToken()).json()).token];
    const { own, wire } = await page.evaluate(sendAllCandidates, tokens);
    assert.deepEqual(own, ['host', 'relay'], 'the peer gathered host candidates too');
    const receivedText = wire.join('\n');
    assert.match(receivedText, /typ relay/);
    assert.doesNotMatch(receivedText, /typ (host|srflx|prflx)/);
    const offer = wire.map((text) => JSON.parse(text)).find(({ type }) => type === 'offer');
    assert.match(offer.sdp, /a=candidate:.* typ relay raddr 0\.0\.0\.0 rport/);
    await browser.closePages();
  });

  it('is the only address that a relay-only peer receives from an unrestricted peer, and the call works', async () => {
    const [grace, ada] = [await browser.person(), await browser.person()];
    const [received, sent] = [[], []];
    grace.page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => received.push(payload)));
    ada.page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(payload)));
    await ada.page.addInitScript(ignoreIcePolicy);
    await ada.usesRole('speaker', KEY);
    await grace.joins(origin, 'mixed', 'Grace');
    await ada.joins(origin, 'mixed', 'Ada');
    assert.deepEqual([grace.joined[0].icePolicy, ada.joined[0].icePolicy], ['relay', 'all']);
    await Promise.all([ada.receives(1), grace.receives(1)]);
    assert.match((await grace.page.evaluate(readRoutes))[0], /^relay udp /);
    assert.ok(candidatesIn(sent).some((candidate) => / typ host/.test(candidate)), 'the peer sent host candidates too');
    assert.ok(candidatesIn(received).length > 0);
    for (const candidate of candidatesIn(received)) assert.match(candidate, / typ relay raddr (0\.0\.0\.0|::) rport (0|9)\b/);
    assert.doesNotMatch(received.join('\n'), /typ (host|srflx|prflx)/);
    assert.deepEqual(await browser.closePages(), []);
  });

  it('refuses a credential that has expired, and a credential of another secret', async () => {
    const page = await openBlankPage();
    assert.deepEqual(await page.evaluate(gatherRelayCandidates, createCredential(current, 60)), { candidates: 1, errors: [] }, 'a valid credential');
    for (const bad of [createCredential(current, -1), createCredential(foreign, 60)]) {
      const found = await page.evaluate(gatherRelayCandidates, bad);
      assert.equal(found.candidates, 0);
      assert.ok(found.errors.includes(401), JSON.stringify(found));
    }
    await browser.closePages();
  });

  it('accepts the credentials of GET /auth/ice with both secrets during a rotation', async () => {
    const page = await openBlankPage();
    const token = (await (await fetch(`${origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"room":"r"}' })).json()).token;
    const ice = await (await fetch(`${origin}/auth/ice`, { headers: { Authorization: `Bearer ${token}` } })).json();
    assert.deepEqual([ice.icePolicy, ice.expiresIn], ['relay', 3600]);
    assert.equal((await page.evaluate(gatherRelayCandidates, ice.iceServers)).candidates, 1);
    await browser.closePages();
  });

  it('accepts the credentials of ice-servers after those of joined have expired', async () => {
    const server = await startSignalbox(site, 'short', { urls: [url('udp')], secrets: [current], ttl: '8s' });
    const body = JSON.stringify({ room: 'r' });
    const answer = await fetch(`${server.origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    const page = await openBlankPage(server.origin);
    const story = await page.evaluate(restartWithPushedCredentials, (await answer.json()).token);
    assert.deepEqual([story.open, story.types], ['open', ['relay']], JSON.stringify(story));
    for (const states of [story.first, story.second]) assert.ok(states.every((state) => ['connected', 'completed'].includes(state)), JSON.stringify(story));
    assert.equal(story.pushed.expiresIn, 8000);
    const late = await page.evaluate(gatherRelayCandidates, story.old);
    assert.equal(late.candidates, 0, 'the credentials of joined have expired');
    await browser.closePages();
  });
});
