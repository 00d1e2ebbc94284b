/** Media continues and each negotiation ends, with real browsers and a server that loses frames. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { LossyServer } from './lossy-server.js';
import { chromiumPath, launchBrowser, openPage, waitForVideos } from './harness.js';

describe('in a browser, with lost frames', { skip: !existsSync(chromiumPath) && !process.env.CI && 'there is no Chromium' }, () => {
  let browser, server, complaints, pages;
  before(async () => (browser = await launchBrowser()));
  after(() => browser?.close());
  beforeEach(async () => {
    [server, complaints, pages] = [await new LossyServer().start(), [], []];
  });
  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()));
    server.stop();
    assert.deepEqual(complaints, []);
  });

  const open = async () => {
    const page = await openPage(browser, complaints);
    await page.goto(server.origin);
    pages.push(page);
    return page;
  };
  const openTwo = async () => [await open(), await open()];
  const seeEachOther = () => Promise.all(pages.map((page) => waitForVideos(page, 1, 'video')));
  const peers = () => [...server.peers.values()];

  /** In both pages new video arrives on the only connection, and no negotiation is pending. */
  async function assertCallContinues() {
    for (const page of pages) {
      await page.waitForFunction(() => made.at(-1).signalingState === 'stable' && made.at(-1).connectionState === 'connected');
      const before = await page.evaluate(() => document.querySelector('video').currentTime);
      await page.waitForFunction((time) => document.querySelector('video').currentTime > time + 0.3, before);
      assert.deepEqual(await page.evaluate(() => [made.length, ended]), [1, []]);
    }
  }
  const iceUfrags = () => Promise.all(pages.map((page) => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(made[0].currentLocalDescription.sdp)[1])));
  const waitForIceRestart = async (old) => {
    for (const [n, page] of pages.entries()) {
      await page.waitForFunction((ufrag) => !made[0].currentLocalDescription.sdp.includes(`a=ice-ufrag:${ufrag}`), old[n]);
    }
  };

  test('a broken socket is resumed without an effect on the call', async () => {
    await openTwo();
    await seeEachOther();
    const old = await iceUfrags();
    for (const peer of peers()) server.breakSocket(peer);
    await Promise.all(pages.map((page) => page.waitForFunction(() => room.client.self.type === 'resumed')));
    await assertCallContinues();
    assert.deepEqual(await iceUfrags(), old);
  });

  for (const [which, pick] of [['the first', [0]], ['the second', [1]], ['both', [0, 1]]]) {
    test(`after a new mailbox for ${which}, ICE restarts on the same connections`, async () => {
      await openTwo();
      await seeEachOther();
      const old = await iceUfrags();
      for (const n of pick) server.replaceMailbox(peers()[n]);
      await waitForIceRestart(old);
      await assertCallContinues();
    });
  }

  for (const type of ['offer', 'answer', 'candidate']) {
    test(`the loss of the first ${type} is repaired`, async () => {
      let lost = 0;
      const many = type === 'candidate' ? Infinity : 1;
      server.isLost = (frame) => frame.type === type && (lost += 1) <= many;
      await openTwo();
      if (type === 'candidate') {
        // All candidates of both sides are lost, and then one mailbox is replaced.
        await pages[0].waitForFunction(() => made[0]?.signalingState === 'stable');
        // The time of the fault.
        await new Promise((resolve) => setTimeout(resolve, 500));
        server.isLost = () => false;
        server.replaceMailbox(peers()[0]);
      }
      await seeEachOther();
      assert.ok(lost > 0);
    });
  }

  test('after a lost answer and a new mailbox for its target, a new offer replaces the old one', async () => {
    await openTwo();
    await seeEachOther();
    const old = await iceUfrags();
    for (const n of [0, 1]) {
      server.isLost = ({ type }) => type === 'answer';
      await pages[n].evaluate(() => made[0].restartIce());
      await pages[n].waitForFunction(() => made[0].signalingState === 'have-local-offer');
      await pages[1 - n].waitForFunction(() => made[0].signalingState === 'stable');
      server.isLost = () => false;
      server.replaceMailbox(peers()[n]);
      await pages[n].waitForFunction(() => made[0].signalingState === 'stable');
    }
    await waitForIceRestart(old);
    await assertCallContinues();
  });

  test('after a lost offer and a new mailbox for its target, both sides offer and agree', async () => {
    await openTwo();
    await seeEachOther();
    for (const n of [0, 1]) {
      const old = await iceUfrags();
      server.isLost = ({ type }) => type === 'offer';
      await pages[n].evaluate(() => made[0].restartIce());
      await pages[n].waitForFunction(() => made[0].signalingState === 'have-local-offer');
      server.isLost = () => false;
      server.replaceMailbox(peers()[1 - n]);
      await waitForIceRestart(old);
      await assertCallContinues();
    }
  });

  test('a reloaded page takes over without a token, and a second page is another peer', async () => {
    const [alice, bob] = await openTwo();
    await seeEachOther();
    await bob.reload();
    await alice.waitForFunction(() => ended.length === 1);
    assert.deepEqual(await alice.evaluate(() => ended), ['replaced']);
    await seeEachOther();
    assert.equal(server.tokens, 2);
    assert.deepEqual(await bob.evaluate(() => Object.keys(sessionStorage)), []);
    const [popup] = await Promise.all([bob.waitForEvent('popup'), bob.evaluate(() => void open(location.href))]);
    await waitForVideos(popup, 2, 'video');
    assert.equal(server.tokens, 3);
    assert.deepEqual(await bob.evaluate(() => [room.client.state, ended]), ['open', []]);
  });

  test('a closed page closes its data channel, and a lost socket alone does not', async () => {
    const [alice, bob] = await openTwo();
    await seeEachOther();
    for (const peer of peers()) server.breakSocket(peer);
    await assertCallContinues();
    assert.equal(await alice.evaluate(() => hungUp), 0);
    await bob.goto('about:blank');
    await alice.waitForFunction(() => hungUp === 1);
  });
});
