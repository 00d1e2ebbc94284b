/** Media goes on, and negotiation comes to an end, whatever the signaling loses: real browsers against a server that loses on purpose. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { LossyServer } from './lossy.js';
import { chromiumPath, launch, person, seesOthers } from './server.js';

describe('in a browser, with losses', { skip: !existsSync(chromiumPath) && !process.env.CI && 'there is no Chromium' }, () => {
  let browser, server, complaints, pages;
  before(async () => (browser = await launch()));
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
    const page = await person(browser, complaints);
    await page.goto(server.origin);
    pages.push(page);
    return page;
  };
  const both = async () => [await open(), await open()];
  const seeEachOther = () => Promise.all(pages.map((page) => seesOthers(page, 1, 'video')));
  const peers = () => [...server.peers.values()];

  /** In both pages: pictures arrive that were not there before, on the only connection that was ever made, and nothing is pending. */
  async function goesOn() {
    for (const page of pages) {
      await page.waitForFunction(() => made.at(-1).signalingState === 'stable' && made.at(-1).connectionState === 'connected');
      const before = await page.evaluate(() => document.querySelector('video').currentTime);
      await page.waitForFunction((time) => document.querySelector('video').currentTime > time + 0.3, before);
      assert.deepEqual(await page.evaluate(() => [made.length, ended]), [1, []]);
    }
  }
  const ufrags = () => Promise.all(pages.map((page) => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(made[0].currentLocalDescription.sdp)[1])));
  const restartedSince = async (old) => {
    for (const [n, page] of pages.entries()) {
      await page.waitForFunction((ufrag) => !made[0].currentLocalDescription.sdp.includes(`a=ice-ufrag:${ufrag}`), old[n]);
    }
  };

  test('a socket that breaks is resumed, and the call does not notice', async () => {
    await both();
    await seeEachOther();
    const old = await ufrags();
    for (const peer of peers()) server.cut(peer);
    await Promise.all(pages.map((page) => page.waitForFunction(() => room.client.self.type === 'resumed')));
    await goesOn();
    assert.deepEqual(await ufrags(), old);
  });

  for (const [who, pick] of [['the first', [0]], ['the second', [1]], ['both', [0, 1]]]) {
    test(`the mailbox of ${who} breaks: ICE restarts on the same connections`, async () => {
      await both();
      await seeEachOther();
      const old = await ufrags();
      for (const n of pick) server.breakBox(peers()[n]);
      await restartedSince(old);
      await goesOn();
    });
  }

  for (const type of ['offer', 'answer', 'candidate']) {
    test(`a first ${type} that is lost is made good`, async () => {
      let lost = 0;
      const many = type === 'candidate' ? Infinity : 1;
      server.loses = (frame) => frame.type === type && (lost += 1) <= many;
      await both();
      if (type === 'candidate') {
        // All of one side's and the other's: only descriptions get through, and the mailboxes break in between.
        await pages[0].waitForFunction(() => made[0]?.signalingState === 'stable');
        // How long the fault lasts.
        await new Promise((resolve) => setTimeout(resolve, 500));
        server.loses = () => false;
        server.breakBox(peers()[0]);
      }
      await seeEachOther();
      assert.ok(lost > 0);
    });
  }

  test('an answer is lost and the one who waits for it is told: a new offer takes the place of the old one', async () => {
    await both();
    await seeEachOther();
    const old = await ufrags();
    for (const n of [0, 1]) {
      server.loses = ({ type }) => type === 'answer';
      await pages[n].evaluate(() => made[0].restartIce());
      await pages[n].waitForFunction(() => made[0].signalingState === 'have-local-offer');
      await pages[1 - n].waitForFunction(() => made[0].signalingState === 'stable');
      server.loses = () => false;
      server.breakBox(peers()[n]);
      await pages[n].waitForFunction(() => made[0].signalingState === 'stable');
    }
    await restartedSince(old);
    await goesOn();
  });

  test('an offer is lost and the one who would have got it is told: both offer, and agree', async () => {
    await both();
    await seeEachOther();
    for (const n of [0, 1]) {
      const old = await ufrags();
      server.loses = ({ type }) => type === 'offer';
      await pages[n].evaluate(() => made[0].restartIce());
      await pages[n].waitForFunction(() => made[0].signalingState === 'have-local-offer');
      server.loses = () => false;
      server.breakBox(peers()[1 - n]);
      await restartedSince(old);
      await goesOn();
    }
  });

  test('a reload takes the place of the page before it, without a token; a page opened beside it is somebody else', async () => {
    const [alice, bob] = await both();
    await seeEachOther();
    await bob.reload();
    await alice.waitForFunction(() => ended.length === 1);
    assert.deepEqual(await alice.evaluate(() => ended), ['replaced']);
    await seeEachOther();
    assert.equal(server.tokens, 2);
    assert.deepEqual(await bob.evaluate(() => Object.keys(sessionStorage)), []);
    const [popup] = await Promise.all([bob.waitForEvent('popup'), bob.evaluate(() => void open(location.href))]);
    await seesOthers(popup, 2, 'video');
    assert.equal(server.tokens, 3);
    assert.deepEqual(await bob.evaluate(() => [room.client.state, ended]), ['open', []]);
  });

  test('a page that goes hangs up by itself, and the others see it: a lost socket alone looks otherwise', async () => {
    const [alice, bob] = await both();
    await seeEachOther();
    for (const peer of peers()) server.cut(peer);
    await goesOn();
    assert.equal(await alice.evaluate(() => hungUp), 0);
    await bob.goto('about:blank');
    await alice.waitForFunction(() => hungUp === 1);
  });
});
