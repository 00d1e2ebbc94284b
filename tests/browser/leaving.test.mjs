// A person who leaves, closes the tab or reloads: what the others see, and when the place is free.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { Gate, startPages } from './gate.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

/** The room has two places, and a lost peer keeps its place for 30 s. */
const SETTINGS = { SIGNALBOX__LIMITS__ROOM_PEERS: '2', SIGNALBOX__TIMING__LEASE: '500ms' };

/** Runs in the page: joins the room and records what it hears of others. */
async function startClient([url, room]) {
  const { SignalingClient, guestToken } = await import('/client/index.js');
  const client = new SignalingClient({ url, getToken: () => guestToken({ url, room }), handleStorage: { storage: sessionStorage, key: 'handle' } });
  Object.assign(globalThis, { client, heard: [], times: [], joined: 0 });
  client.on('joined', () => (globalThis.joined += 1));
  for (const type of ['peer-joined', 'peer-detached', 'peer-attached', 'peer-left']) {
    client.on(type, ({ reason }) => globalThis.heard.push(reason ? `${type} ${reason}` : type) && globalThis.times.push(performance.now()));
  }
  client.connect().catch(() => {});
}

const hears = (page, ...events) => until(`events ${events}`, async () => {
  const heard = await page.evaluate(() => globalThis.heard);
  return String(heard) === String(events) || heard;
}, 15_000);

/** The time from the first to the last event that the page has heard since the join of the other. */
const spanMs = (page) => page.evaluate(() => globalThis.times.at(-1) - globalThis.times[1]);

for (const name of BROWSERS) {
  describe(`leaving in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let gate;
    let pages;
    let rooms = 0;

    before(async () => {
      pages = await startPages(site);
      const server = await EmbeddedServer.start(site, { ...SETTINGS, SIGNALBOX__SERVER__ALLOWED_ORIGINS: pages });
      [gate, browser] = await Promise.all([Gate.start(site, server.port), AnyBrowser.launch(name)]);
      gate.serverOrigin = server.origin.replace('localhost', '127.0.0.1');
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => {
      gate.restore();
      gate.upgradeDelayMs = 0;
      await browser.closePages();
    });

    async function open(room, url = gate.origin) {
      const page = await browser.open(`${pages}/`);
      await page.evaluate(startClient, [url, room]);
      return page;
    }
    const joins = (page, count = 1) => until('the page has joined', async () => (await page.evaluate(() => globalThis.joined)) === count);

    /** Alice watches, with a connection of her own; Bob is behind the gate. */
    async function openTwo() {
      const room = `room-${(rooms += 1)}`;
      const alice = await open(room, gate.serverOrigin);
      await joins(alice);
      const bob = await open(room);
      return { room, alice, bob };
    }

    async function openJoinedTwo() {
      const two = await openTwo();
      await joins(two.bob);
      await hears(two.alice, 'peer-joined');
      return two;
    }

    const CLOSE_PAGE = {
      'a closed tab': (page) => page.close({ runBeforeUnload: true }),
      'another address': (page) => page.goto('about:blank'),
    };
    for (const [way, close] of Object.entries(CLOSE_PAGE)) {
      it(`${way} frees the place within seconds`, async () => {
        const { room, alice, bob } = await openJoinedTwo();
        await close(bob);
        await hears(alice, 'peer-joined', 'peer-detached', 'peer-left timeout');
        assert.ok((await spanMs(alice)) < 8_000, String(await spanMs(alice)));
        await joins(await open(room));
      });
    }

    it('a reload takes over the place', async () => {
      const { room, alice, bob } = await openJoinedTwo();
      await bob.reload();
      await bob.evaluate(startClient, [gate.origin, room]);
      await joins(bob);
      await until('Bob is a new peer in his place', async () => (await alice.evaluate(() => globalThis.heard)).slice(-2).sort().join() === 'peer-joined,peer-left replaced');
    });

    for (const delayMs of [0, 1_000]) {
      it(`leave() while the socket opens (the answer takes ${delayMs} ms)`, async () => {
        gate.upgradeDelayMs = delayMs;
        const opened = gate.log.length;
        const { alice, bob } = await openTwo();
        await until('the upgrade is on its way', () => gate.log.slice(opened).some((line) => line.includes('/ws/signal')) || gate.log.at(-1));
        const state = await bob.evaluate(() => {
          globalThis.client.leave();
          return globalThis.client.state;
        });
        assert.equal(state, 'closed');
        await until('Alice hears that Bob has left', async () => {
          const heard = await alice.evaluate(() => globalThis.heard);
          return ['', 'peer-joined,peer-left left'].includes(String(heard)) ? heard.length > 0 || delayMs === 0 : heard;
        }, 4_000);
      });
    }

    it('leave() while the client reconnects', async () => {
      const { room, alice, bob } = await openJoinedTwo();
      gate.cut();
      await hears(alice, 'peer-joined', 'peer-detached');
      await bob.evaluate(() => globalThis.client.leave());
      gate.restore();
      await hears(alice, 'peer-joined', 'peer-detached', 'peer-attached', 'peer-left left');
      assert.ok((await spanMs(alice)) < 6_000, String(await spanMs(alice)));
      await joins(await open(room));
    });

    it('leave() on a connection that is dead without a close', async () => {
      const { alice, bob } = await openJoinedTwo();
      gate.silence();
      gate.restore();
      await bob.evaluate(() => globalThis.client.leave());
      await until('Alice hears that Bob has left', async () => (await alice.evaluate(() => globalThis.heard)).at(-1) === 'peer-left left', 8_000);
    });
  });
}
