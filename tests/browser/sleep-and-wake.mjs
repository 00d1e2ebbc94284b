// Sleep and wake: a page whose process stood still, and a device whose address has changed, are in the
// call again within seconds. Each browser has a file of its own, because the tests change the address
// of the machine and wait for minutes.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser } from './any-browser.mjs';
import { Gate, startPages } from './gate.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const FROZEN_MS = 40_000;

/** Runs in the page: joins a room with a fake camera. */
async function joinRoom([url, room]) {
  const { join } = await import('/client/room.js');
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  globalThis.room = await join({ url, room, media, handleStorage: null });
  globalThis.heard = ['joined'];
  for (const name of ['joined', 'resumed']) globalThis.room.client.on(name, () => globalThis.heard.push(name));
}

/** Runs in the page: how many media packets all connections have received. */
async function countPackets() {
  let packets = 0;
  for (const { pc } of globalThis.room.peers.values()) {
    // Firefox never answers for a connection that is closed meanwhile.
    const noAnswer = new Promise((resolve) => setTimeout(resolve, 2_000, new Map()));
    for (const stats of (await Promise.race([pc.getStats(), noAnswer])).values()) if (stats.type === 'inbound-rtp') packets += stats.packetsReceived;
  }
  return packets;
}

/** Waits until new media arrives, and returns how long that took. */
async function waitForMedia(pages, deadlineMs) {
  const began = Date.now();
  await Promise.all(
    pages.map(async (page) => {
      const before = await page.evaluate(countPackets);
      await until('new media arrives', async () => Math.abs((await page.evaluate(countPackets)) - before) > 10, deadlineMs);
    }),
  );
  return Date.now() - began;
}

const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe', encoding: 'utf8' });

/** The processes that run the pages of a browser. */
function pageProcesses() {
  const lines = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
  return lines.filter((line) => /--type=renderer| -contentproc .* tab$/.test(line)).map((line) => Number(line.trim().split(' ')[0]));
}

/** @param {string} name of the browser */
export function testSleepAndWake(name) {
  describe(`sleep and wake in ${name}`, () => {
    const site = new TestSite();
    let pages;
    let server;
    let gate;
    let alice;
    let browsers = [];

    before(async () => {
      // The address of the device, which changes; the page and the server stay reachable.
      ip('link', 'add', 'net0', 'type', 'veth', 'peer', 'name', 'net1');
      // An IPv6 address that becomes usable a second later would be one more change of the network, and
      // Chromium breaks off all requests at each.
      for (const link of ['net0', 'net1']) ip('link', 'set', link, 'addrgenmode', 'none', 'up');
      site.onClose(() => ip('link', 'del', 'net0'));
      setAddress('10.98.0.7');
      pages = await startPages(site);
      server = await EmbeddedServer.start(site, { SIGNALBOX__SERVER__ALLOWED_ORIGINS: pages });
      gate = await Gate.start(site, server.port);
    });
    after(async () => {
      await Promise.all(browsers.map((browser) => browser.close()));
      await site.close();
    });
    afterEach(async () => {
      gate.restore();
      for (const browser of browsers) await browser.closePages();
    });

    function setAddress(address) {
      ip('addr', 'flush', 'dev', 'net0', 'scope', 'global');
      ip('addr', 'add', `${address}/24`, 'dev', 'net0');
      ip('route', 'replace', 'default', 'via', address.replace(/\d+$/, '254'), 'dev', 'net0');
    }

    async function join(url, room) {
      const browser = await AnyBrowser.launch(name);
      browsers.push(browser);
      const page = await browser.open(`${pages}/`);
      await page.evaluate(joinRoom, [url, room]);
      return page;
    }

    /** Alice has a connection of her own, and Bob is behind the gate, in a browser of his own. */
    async function startCall(room) {
      alice = await join(server.origin.replace('localhost', '127.0.0.1'), room);
      const others = new Set(pageProcesses());
      const bob = await join(gate.origin, room);
      const processes = pageProcesses().filter((id) => !others.has(id));
      await waitForMedia([alice, bob]);
      return { bob, processes };
    }

    const WHILE_FROZEN = {
      'the server waits': { ms: 3_000, act: () => {} },
      'a proxy forgets the connection': { ms: 3_000, act: () => gate.silence() },
      'the resume window passes': { ms: 3_000, act: () => gate.cut() },
    };
    for (const [what, { ms, act }] of Object.entries(WHILE_FROZEN)) {
      it(`a page frozen for 40 s is in the call again within seconds (${what})`, async () => {
        const { bob, processes } = await startCall(what.replaceAll(' ', '-'));
        for (const id of processes) process.kill(id, 'SIGSTOP');
        act();
        await new Promise((resolve) => setTimeout(resolve, FROZEN_MS));
        gate.restore();
        for (const id of processes) process.kill(id, 'SIGCONT');
        const tookMs = await waitForMedia([alice, bob], 15_000);
        console.log(`# ${name}: ${what}: ${tookMs} ms`, await bob.evaluate(() => globalThis.heard));
        assert.ok(tookMs < ms, `${tookMs} ms`);
        await until('Bob has an open connection', () => bob.evaluate(() => globalThis.room.client.state === 'open'), 2_000);
      });
    }

    it('a page that returns to the foreground replaces a dead connection within a second', async () => {
      const { bob } = await startCall('foreground');
      gate.silence();
      gate.restore();
      const tookMs = await bob.evaluate(async () => {
        const began = performance.now();
        const resumed = globalThis.room.client.next('resumed');
        document.dispatchEvent(new Event('visibilitychange'));
        await resumed;
        return performance.now() - began;
      });
      console.log(`# ${name}: foreground: ${tookMs} ms`);
      // A second where nothing else runs.
      assert.ok(tookMs < 2_000, `${tookMs} ms`);
    });

    it('a changed address costs less than 5 s', async () => {
      const { bob } = await startCall('address');
      setAddress('10.97.0.9');
      const tookMs = await waitForMedia([alice, bob], 20_000);
      console.log(`# ${name}: address: ${tookMs} ms`);
      assert.ok(tookMs < 5_000, `${tookMs} ms`);
    });
  });
}
