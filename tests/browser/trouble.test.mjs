// Why a call does not connect: each cause for real, and named within five seconds to the page, in the
// timeline of the room, and in the metrics.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { freePort } from '../edge/harness.mjs';
import { AnyBrowser } from './any-browser.mjs';
import { until } from './person.mjs';
import { RoomPage } from './room-page.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';
import { startTurnServer } from './turn-server.mjs';
import { OTHER_SERVER, SERVER, UserNetwork, ownsNetwork, router } from './user-network.mjs';

/** A trouble is named within this time. */
const NAMED_MS = 5_000;

const randomSecret = () => randomBytes(32).toString('hex');
const KEY = `backend:${randomSecret()}`;

/** Runs in a page: keeps each trouble, with the time since its connection began. */
function recordTroubles() {
  globalThis.troubles = [];
  room.on('peer', (other) => {
    const began = performance.now();
    other.on('trouble', ({ code }) => troubles.push({ code, ms: performance.now() - began }));
  });
}

describe('a call that does not connect', { skip: ownsNetwork() ? false : 'needs a network namespace of its own' }, () => {
  const site = new TestSite();
  const secret = randomSecret();
  let networks;
  let browsers;
  const pagesOpened = [];
  let rooms = 0;

  before(async () => {
    networks = [await UserNetwork.create(site, 1), await UserNetwork.create(site, 2)];
    browsers = await Promise.all(networks.map((network) => network.launchChromium(site)));
  });
  afterEach(() => Promise.all(pagesOpened.splice(0).map((page) => page.close())));
  after(() => site.close());

  /** Starts a server with these ICE servers. */
  async function startSignalbox({ stun = [], turn = [], policy = 'all' }) {
    const metricsPort = await freePort();
    const file = join(site.dir, `${metricsPort}.toml`);
    const list = (name, urls) => (urls.length > 0 ? [`[[ice.${name}]]`, `urls = ${JSON.stringify(urls)}`] : []);
    writeFileSync(file, ['[ice]', `policy = "${policy}"`, ...list('servers', stun), ...list('turn', turn), ''].join('\n'));
    const settings = {
      ...(turn.length > 0 && { SIGNALBOX_TURN_SECRETS: secret }),
      SIGNALBOX_API_KEYS: KEY,
      AUTH_SECRET: randomBytes(48).toString('base64'),
      SIGNALBOX__AUTH__GUESTS: 'true',
      SIGNALBOX__SERVER__METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
    };
    const server = await EmbeddedServer.start(site, settings, ['--config', file], '0.0.0.0');
    return Object.assign(server, { metricsPort, at: `http://${SERVER}:${server.port}` });
  }

  /** One page in each network, in one room. */
  async function meet(server, { atFirst = () => {}, using = browsers } = {}) {
    const room = `r${(rooms += 1)}`;
    const enter = async (openPage, name) => {
      const open = async (url) => {
        const page = await openPage();
        pagesOpened.push(page);
        await page.goto(url);
        return page;
      };
      const page = await RoomPage.join({ open }, server.at, { room, name, camera: false });
      await page.run(recordTroubles);
      return page;
    };
    const first = await enter(using[0], 'Ada');
    await atFirst(first);
    return { room, pages: [first, await enter(using[1], 'Grace')], began: performance.now() };
  }

  /** Reads the code of the current trouble, which came in time. */
  async function readsTrouble(page, code) {
    await page.until(`the page reads ${code}`, (code) => troubles.at(-1)?.code === code || JSON.stringify(troubles), code);
    const { ms } = await page.run(() => troubles.at(-1));
    assert.ok(ms < NAMED_MS, `${code} after ${ms} ms`);
  }

  const readMetrics = async ({ metricsPort }) => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();

  /** Waits until the server knows the failures of a room, within the time. */
  async function serverKnows(server, { room, began }, codes) {
    const expected = [...codes].sort();
    await until(`the timeline and the metrics have ${expected}`, async () => {
      const answer = await fetch(`http://127.0.0.1:${server.port}/api/rooms/${room}/timeline`, { headers: { Authorization: `Basic ${Buffer.from(KEY).toString('base64')}` } });
      const { pairs = [] } = await answer.json();
      const failed = pairs.flatMap(({ steps }) => steps).filter(({ step }) => step === 'failed').map(({ code }) => code).sort();
      const counted = [...(await readMetrics(server)).matchAll(/^signalbox_pair_outcomes_total\{(?=.*result="failed").*code="(\w+)".*\} (\d+)/gm)].flatMap(([, code, count]) => Array(Number(count)).fill(code)).sort();
      return (String(failed) === String(expected) && String(counted) === String(expected)) || { failed, counted };
    });
    const ms = performance.now() - began;
    assert.ok(ms < NAMED_MS, `the server knows it after ${ms} ms`);
  }

  /** Both pages read a code, and the server knows both. */
  async function areNamed(server, meeting, codes) {
    await Promise.all(meeting.pages.map((page, n) => readsTrouble(page, codes[n])));
    await serverKnows(server, meeting, codes);
  }

  /** Starts a TURN server with another secret, and returns its URL. */
  async function startRefusingServer() {
    const port = await freePort();
    await startTurnServer(site, [randomSecret()], port, { address: SERVER });
    return `turn:${SERVER}:${port}?transport=udp`;
  }

  it('because the TURN server has another secret: turn_refused', async () => {
    const server = await startSignalbox({ turn: [await startRefusingServer()] });
    await areNamed(server, await meet(server), ['turn_refused', 'turn_refused']);
  });

  it('because the TURN server is stopped: turn_unreachable, until it runs and the pages connect', async () => {
    const port = await freePort();
    const server = await startSignalbox({ turn: [`turn:${SERVER}:${port}?transport=udp`, `turn:${SERVER}:${port}?transport=tcp`] });
    const meeting = await meet(server);
    await areNamed(server, meeting, ['turn_unreachable', 'turn_unreachable']);
    await startTurnServer(site, [secret], port, { address: SERVER });
    for (const page of meeting.pages) {
      await until('the trouble is over', () => page.run(() => (troubles.at(-1).code === null && peer.state === 'connected') || peer.state), 60_000);
      const { pair, trouble, state } = await page.run(() => peer.diagnose());
      assert.deepEqual([trouble, state, pair.relayed], [null, 'connected', true]);
      assert.ok([pair.local, pair.remote].includes('relay') && pair.roundTripMs >= 0, JSON.stringify(pair));
    }
    await until('the metrics have two relayed connections', async () => /^signalbox_pairs_relayed_total 2$/m.test(await readMetrics(server)));
  });

  it('because the TURN server relays to no peer: no_path', async () => {
    const port = await freePort();
    await startTurnServer(site, [secret], port, { address: SERVER, flags: ['--denied-peer-ip=0.0.0.0-255.255.255.255'] });
    const server = await startSignalbox({ turn: [`turn:${SERVER}:${port}?transport=udp`], policy: 'relay' });
    await areNamed(server, await meet(server), ['no_path', 'no_path']);
  });

  it('because there is no direct way and no TURN server: no_relay', async () => {
    const server = await startSignalbox({});
    const meeting = await meet(server);
    await areNamed(server, meeting, ['no_relay', 'no_relay']);
    const diagnosis = await meeting.pages[0].run(() => peer.diagnose());
    assert.deepEqual([diagnosis.trouble, diagnosis.pair, diagnosis.errors], ['no_relay', null, []]);
    assert.doesNotMatch(JSON.stringify(diagnosis), /\d+\.\d+\.\d+/, 'no address');
  });

  it('because a role allows relays only, and there is none: no_relay', async () => {
    const server = await startSignalbox({ policy: 'relay' });
    await areNamed(server, await meet(server), ['no_relay', 'no_relay']);
  });

  it('because the other page is blocked: answer_missing', async () => {
    const server = await startSignalbox({});
    const block = (page) => page.run(() => {
      room.on('peer', () => {
        const end = Date.now() + 8_000;
        while (Date.now() < end); // no other code of this page runs
      });
    });
    const { room, pages, began } = await meet(server, { atFirst: block });
    await readsTrouble(pages[1], 'answer_missing');
    await serverKnows(server, { room, began }, ['answer_missing']);
  });

  it('because this browser may not use the network: no_candidates', async () => {
    const policy = 'webrtc-ip-handling-policy=disable_non_proxied_udp';
    const restricted = await networks[0].launchChromium(site, [`--${policy}`, `--force-${policy}`]);
    const server = await startSignalbox({});
    const { room, pages, began } = await meet(server, { using: [restricted, browsers[1]] });
    await readsTrouble(pages[0], 'no_candidates');
    await serverKnows(server, { room, began }, ['no_candidates', 'no_relay']);
  });

  it('because a network lets no UDP out: udp_blocked', async () => {
    const network = await UserNetwork.create(site, 3);
    network.dropUdp();
    const blocked = await network.launchChromium(site);
    const [port, stunPort] = [await freePort(), await freePort()];
    await startTurnServer(site, [secret], port, { address: SERVER });
    await startTurnServer(site, [secret], stunPort, { address: OTHER_SERVER });
    const turn = [`turn:${SERVER}:${port}?transport=udp`];
    for (const stun of [[], [`stun:${OTHER_SERVER}:${stunPort}`]]) {
      const server = await startSignalbox({ stun, turn });
      await areNamed(server, await meet(server, { using: [blocked, browsers[1]] }), ['udp_blocked', 'no_path']);
    }
  });

  // The test speaks with Firefox over TCP, so it runs on the router, which has a direct way to each network.
  describe('of Firefox, which may only use relays,', () => {
    let firefox;
    before(async () => (firefox = await AnyBrowser.launch('firefox')));
    after(() => firefox?.close());

    for (const [cause, code, settings] of [
      ['another secret of the TURN server', 'turn_refused', async () => ({ turn: [await startRefusingServer()] })],
      ['a stopped TURN server', 'turn_unreachable', async () => ({ turn: [`turn:${SERVER}:${await freePort()}?transport=udp`] })],
      ['no TURN server', 'no_relay', () => ({})],
    ]) {
      it(`because of ${cause}: ${code}`, async () => {
        const server = await startSignalbox({ ...(await settings()), policy: 'relay' });
        await areNamed(server, await meet(server, { using: [() => firefox.open('about:blank'), browsers[1]] }), [code, code]);
      });
    }
  });

  it('because the way is gone for a while: both make a new connection when it is back', async () => {
    router.forward(true);
    const server = await startSignalbox({});
    const { pages } = await meet(server);
    for (const page of pages) await page.isConnected();
    for (const page of pages) await page.run(() => Object.assign(globalThis, { firstConnection: peer.pc, ended: null }) && peer.on('closed', (reason) => (globalThis.ended = reason)));
    router.forward(false);
    for (const page of pages) await page.until('the loss is named', () => troubles.at(-1)?.code === 'no_relay' || JSON.stringify(troubles));
    await until('ICE restarts had no success', () => pages[0].run(() => peer.pc !== firstConnection || peer.pc.connectionState), 60_000);
    await until('the other side has a new connection too', () => pages[1].run(() => peer.pc !== firstConnection || peer.pc.connectionState), 20_000);
    router.forward(true);
    for (const page of pages) {
      await until('connected again', () => page.run(() => (peer.state === 'connected' && peer.dataChannel?.readyState === 'open') || peer.state), 60_000);
      assert.deepEqual(await page.run(() => [troubles.at(-1).code, ended]), [null, null]);
    }
  });
});
