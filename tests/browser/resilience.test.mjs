// Calls that continue through failures: over the edge, three nodes and Redis, while the test stops
// one of them. Media flows all the time, and a change of media after the failure arrives, so
// signaling works again too.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { TcpProxy, TestSite, startDeployment, waitUntilReady } from './servers.mjs';
import { StageObserver } from './stage-observer.mjs';

describe('a call continues', () => {
  const site = new TestSite();
  let browser;
  let running;

  before(async () => {
    const settings = { SIGNALBOX__LIMITS__ROOM_PEERS: '3' };
    running = await startDeployment(site, { nodes: 3, settings });
    browser = await SharedBrowser.launch();
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const nodeOf = (person) => running.nodes.find(({ node }) => node === person.node);

  /** Joins Alice with a camera and Bob without one, on different nodes or on the same node. */
  async function joinAliceAndBob(room, { together = false } = {}) {
    await waitUntilReady(running);
    const alice = await browser.joins(running.origin, room, 'Alice');
    const bob = await browser.person();
    await bob.joinsWithoutCamera(running.origin, room, 'Bob');
    for (let n = 0; n < 20 && (bob.node === alice.node) !== together; n++) await bob.reloads();
    assert.equal(bob.node === alice.node, together, 'the edge spreads connections over the nodes');
    await Promise.all([bob.seesAndHears(1), alice.hears(1)]);
    return [alice, bob, ...(await Promise.all([StageObserver.start(alice), StageObserver.start(bob)]))];
  }

  /** Switches on a camera for the first time, which needs an offer and an answer. */
  async function switchOnCamera(from, to) {
    await from.toggles('video');
    await allSeeEachOther(from, to);
  }

  const waitForResume = (person, from) => until('the page has resumed on another node', () => (person.resumed.length > 0 && person.node !== from) || person.node);

  it('when the node of one person is killed, and then the node of the other', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('killed');
    const first = nodeOf(bob);
    await first.kill();
    await waitForResume(bob, first.node);
    assert.equal(bob.resumed.at(-1).recovered, true);
    await switchOnCamera(bob, alice);
    await bob.toggles('audio');
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();

    await first.start();
    const second = nodeOf(alice);
    await second.kill();
    await waitForResume(alice, second.node);
    await bob.toggles('audio');
    await alice.page.locator('.tile[data-peer-id][data-video]:not([data-muted])').waitFor();
    await allSeeEachOther(alice, bob);
    await second.start();

    await aliceObserver.assertNoHints({ allowNoVideo: true });
    await bobObserver.assertNoHints();
  });

  it('when the store restarts empty', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('empty');
    await running.store.stop();
    await running.store.start();
    await until('both have lost entries', () => [alice, bob].every(({ resumed }) => resumed.some(({ recovered }) => !recovered)));
    await switchOnCamera(bob, alice);
    aliceObserver.assertSameSocket();
    bobObserver.assertSameSocket();
    await aliceObserver.assertNoHints({ allowNoVideo: true });
    await bobObserver.assertNoHints();
  });

  it('when all nodes are down for a while', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('all-nodes');
    for (const person of [alice, bob]) person.expectedProblems = /status of 503/;
    await Promise.all(running.nodes.map((node) => node.kill()));
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^Reconnecting to the server… The call goes on\.$/)));
    await Promise.all([alice.keepsHearing(3_000), bob.keepsHearing(3_000)]);
    await Promise.all(running.nodes.map((node) => node.start()));
    await until('both have resumed', () => [alice, bob].every(nodeOf));
    await switchOnCamera(bob, alice);
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^One other person is here/)));
    await Promise.all([aliceObserver.assertCallUndisturbed({ allowNoVideo: true }), bobObserver.assertCallUndisturbed()]);
  });

  it('while the store does not answer, and its delayed messages arrive later', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('silent');
    running.store.freeze();
    await bob.toggles('audio');
    await bob.toggles('video');
    await Promise.all([bob.keepsHearing(6_000), alice.keepsHearing(6_000)]);
    running.store.unfreeze();
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();
    aliceObserver.assertSameSocket();
    bobObserver.assertSameSocket();
    await aliceObserver.assertNoHints({ allowNoVideo: true });
    await bobObserver.assertNoHints();
  });

  it('while the store does not answer, and a new camera is visible at once on the same node', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('direct', { together: true });
    running.store.freeze();
    await bob.toggles('video');
    await Promise.all([alice.receives(1), bob.receives(1)]);
    running.store.unfreeze();
    await allSeeEachOther(alice, bob);
    aliceObserver.assertSameSocket();
    bobObserver.assertSameSocket();
    await aliceObserver.assertNoHints({ allowNoVideo: true });
    await bobObserver.assertNoHints();
  });

  it('while every node is restarted, one after the other', async () => {
    const [alice, bob, aliceObserver, bobObserver] = await joinAliceAndBob('rolling');
    for (const node of running.nodes) {
      await node.stop();
      assert.equal(node.child.exitCode, 0, 'the process exited without a kill');
      await node.start();
    }
    await until('both are on a node that runs', () => [alice, bob].every(nodeOf));
    await switchOnCamera(bob, alice);
    await aliceObserver.assertNoHints({ allowNoVideo: true });
    await bobObserver.assertNoHints();
  });

  it('when the network of one person fails for seconds, with the same peer and no visible change', async () => {
    const proxy = await TcpProxy.start(running.origin, site);
    const alice = await browser.joins(running.origin, 'proxy', 'Alice');
    const bob = await browser.joins(proxy.origin, 'proxy', 'Bob');
    await allSeeEachOther(alice, bob);
    const [aliceObserver, bobObserver] = await Promise.all([StageObserver.start(alice), StageObserver.start(bob)]);
    proxy.cut();
    await bob.toggles('audio');
    await bob.reads('#status', /Reconnecting to the server.*The call goes on/);
    await alice.reads('.tile[data-peer-id] .tile-state', /weak connection/);
    proxy.restore();
    await until('Bob has resumed', () => bob.resumed.length > 0);
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^One other person is here/)));
    assert.equal(bob.resumed.at(-1).recovered, true);
    await Promise.all([aliceObserver.assertCallUndisturbed(), bobObserver.assertCallUndisturbed()]);
  });

  it('when a page is reloaded and takes over its earlier peer in a full room', async () => {
    const [alice, bob] = [await browser.joins(running.origin, 'reload', 'Alice'), await browser.joins(running.origin, 'reload', 'Bob')];
    const carol = await browser.person({ camera: false });
    await carol.joins(running.origin, 'reload', 'Carol');
    await alice.sees('Bob', 'Carol');
    const aliceObserver = await StageObserver.start(alice);
    const [before, began] = [bob.peerId, Date.now()];
    await bob.reloads();
    const tookMs = Date.now() - began;
    await alice.page.locator(`.tile[data-peer-id="${bob.peerId}"][data-video]`).waitFor();
    assert.notEqual(bob.peerId, before);
    await alice.sees('Bob', 'Carol');
    const { zero, several } = await aliceObserver.timesVisible('Bob');
    assert.ok(several < 1_000, `Bob was visible twice for ${several} ms`);
    // The page keeps the tile for a second.
    assert.ok(zero < 150 + Math.max(0, tookMs - 1_000), `Bob was not visible for ${zero} ms of ${tookMs}`);

    const dave = await browser.person({ camera: false });
    await dave.page.goto(`${running.origin}/?room=reload&name=Dave&autojoin=1`);
    await dave.reads('#start-error', /has as many people as it takes/);
  });

  it('when a tab is duplicated, and the first tab stays after the second is closed', async () => {
    const [alice, bob] = [await browser.joins(running.origin, 'duplicate', 'Alice'), await browser.joins(running.origin, 'duplicate', 'Bob')];
    await allSeeEachOther(alice, bob);
    const duplicate = await bob.duplicatesTab();
    await alice.sees('Bob', 'Bob');
    assert.notEqual(duplicate.peerId, bob.peerId);
    await duplicate.page.close({ runBeforeUnload: true });
    await alice.sees('Bob');
    await alice.page.locator(`.tile[data-peer-id="${bob.peerId}"][data-state=connected]`).waitFor();
    assert.deepEqual([bob.joined.length, bob.sockets], [1, 1]);
    assert.deepEqual(duplicate.problems, []);
  });
});
