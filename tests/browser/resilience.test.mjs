// Calls that go on: through the edge, over three nodes and Redis, while the test takes one of them away. Whoever is in the call sees and hears
// the others all the time, and what is switched on afterwards arrives, so signaling has healed too.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Cable, Site, deployment, everythingIsReady } from './servers.mjs';
import { Witness } from './witness.mjs';

describe('a call goes on', () => {
  const site = new Site();
  let crowd;
  let running;

  before(async () => {
    const settings = { SIGNALBOX__LIMITS__ROOM_PEERS: '3' };
    running = await deployment(site, { nodes: 3, settings });
    crowd = await Crowd.gather();
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

  const nodeOf = (person) => running.nodes.find(({ node }) => node === person.node);

  /** Alice with her camera and Bob without his, on different nodes or on the same. */
  async function aliceAndDarkBob(room, { together = false } = {}) {
    await everythingIsReady(running);
    const alice = await crowd.joins(running.origin, room, 'Alice');
    const bob = await crowd.person();
    await bob.joinsDark(running.origin, room, 'Bob');
    for (let n = 0; n < 20 && (bob.node === alice.node) !== together; n++) await bob.reloads();
    assert.equal(bob.node === alice.node, together, 'the edge spreads connections over the nodes');
    await Promise.all([bob.seesAndHears(1), alice.hears(1)]);
    return [alice, bob, ...(await Promise.all([Witness.of(alice), Witness.of(bob)]))];
  }

  /** The camera was never on, so this takes an offer and an answer. */
  async function cameraArrives(from, to) {
    await from.toggles('video');
    await allSeeAll(from, to);
  }

  const isBack = (person, from) => until('the page is back on another node', () => (person.resumed.length > 0 && person.node !== from) || person.node);

  it('when the node of one of them is killed, and then the node of the other', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('killed');
    const first = nodeOf(bob);
    await first.kill();
    await isBack(bob, first.node);
    assert.equal(bob.resumed.at(-1).recovered, true);
    await cameraArrives(bob, alice);
    await bob.toggles('audio');
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();

    await first.start();
    const second = nodeOf(alice);
    await second.kill();
    await isBack(alice, second.node);
    await bob.toggles('audio');
    await alice.page.locator('.tile[data-peer-id][data-video]:not([data-muted])').waitFor();
    await allSeeAll(alice, bob);
    await second.start();

    await byAlice.wasNotBothered({ darkTile: true });
    await byBob.wasNotBothered();
  });

  it('when the store comes back empty', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('empty');
    await running.store.stop();
    await running.store.start();
    await until('both are told', () => [alice, bob].every(({ resumed }) => resumed.some(({ recovered }) => !recovered)));
    await cameraArrives(bob, alice);
    byAlice.keptItsSocket();
    byBob.keptItsSocket();
    await byAlice.wasNotBothered({ darkTile: true });
    await byBob.wasNotBothered();
  });

  it('when every node is gone for a while', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('nobody');
    for (const person of [alice, bob]) person.expected = /status of 503/;
    await Promise.all(running.nodes.map((node) => node.kill()));
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^Reconnecting to the server… The call goes on\.$/)));
    await Promise.all([alice.hearsFor(3_000), bob.hearsFor(3_000)]);
    await Promise.all(running.nodes.map((node) => node.start()));
    await until('both are back', () => [alice, bob].every(nodeOf));
    await cameraArrives(bob, alice);
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^One other person is here/)));
    await Promise.all([byAlice.sawNothing({ darkTile: true }), byBob.sawNothing()]);
  });

  it('while the store does not answer for a while, and what was said meanwhile arrives', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('silent');
    running.store.freeze();
    await bob.toggles('audio');
    await bob.toggles('video');
    await Promise.all([bob.hearsFor(6_000), alice.hearsFor(6_000)]);
    running.store.goOn();
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();
    byAlice.keptItsSocket();
    byBob.keptItsSocket();
    await byAlice.wasNotBothered({ darkTile: true });
    await byBob.wasNotBothered();
  });

  it('while the store does not answer, and a camera arrives meanwhile where both are on one node', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('straight', { together: true });
    running.store.freeze();
    await bob.toggles('video');
    await Promise.all([alice.receives(1), bob.receives(1)]);
    running.store.goOn();
    await allSeeAll(alice, bob);
    byAlice.keptItsSocket();
    byBob.keptItsSocket();
    await byAlice.wasNotBothered({ darkTile: true });
    await byBob.wasNotBothered();
  });

  it('while every node is restarted, one after the other', async () => {
    const [alice, bob, byAlice, byBob] = await aliceAndDarkBob('rolling');
    for (const node of running.nodes) {
      await node.stop();
      assert.equal(node.child.exitCode, 0, 'it ended by itself');
      await node.start();
    }
    await until('both are on a node that runs', () => [alice, bob].every(nodeOf));
    await cameraArrives(bob, alice);
    await byAlice.wasNotBothered({ darkTile: true });
    await byBob.wasNotBothered();
  });

  it('when the network of one of them is away for seconds: nobody misses anybody, and it is the same peer', async () => {
    const cable = await Cable.to(running.origin, site);
    const alice = await crowd.joins(running.origin, 'cable', 'Alice');
    const bob = await crowd.joins(cable.origin, 'cable', 'Bob');
    await allSeeAll(alice, bob);
    const [byAlice, byBob] = await Promise.all([Witness.of(alice), Witness.of(bob)]);
    cable.cut();
    await bob.toggles('audio');
    await bob.reads('#status', /Reconnecting to the server.*The call goes on/);
    await alice.reads('.tile[data-peer-id] .tile-state', /weak connection/);
    cable.mend();
    await until('Bob is back', () => bob.resumed.length > 0);
    await alice.page.locator('.tile[data-peer-id][data-muted][data-video]').waitFor();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /^One other person is here/)));
    assert.equal(bob.resumed.at(-1).recovered, true);
    await Promise.all([byAlice.sawNothing(), byBob.sawNothing()]);
  });

  it('when a page is reloaded: it takes the place of the one before it, in a room that is full', async () => {
    const [alice, bob] = [await crowd.joins(running.origin, 'reload', 'Alice'), await crowd.joins(running.origin, 'reload', 'Bob')];
    const carol = await crowd.person({ camera: false });
    await carol.joins(running.origin, 'reload', 'Carol');
    await alice.sees('Bob', 'Carol');
    const byAlice = await Witness.of(alice);
    const [before, began] = [bob.peerId, Date.now()];
    await bob.reloads();
    const tookMs = Date.now() - began;
    await alice.page.locator(`.tile[data-peer-id="${bob.peerId}"][data-video]`).waitFor();
    assert.notEqual(bob.peerId, before);
    await alice.sees('Bob', 'Carol');
    const { none, more } = await byAlice.counted('Bob');
    assert.ok(more < 1_000, `Bob was there twice for ${more} ms`);
    // The page keeps the place for a second.
    assert.ok(none < 150 + Math.max(0, tookMs - 1_000), `Bob was not there for ${none} ms of ${tookMs}`);

    const dave = await crowd.person({ camera: false });
    await dave.page.goto(`${running.origin}/?room=reload&name=Dave&autojoin=1`);
    await dave.reads('#lobby-error', /has as many people as it takes/);
  });

  it('when a tab is duplicated: the first one stays in it, and the second is gone at once when it is closed', async () => {
    const [alice, bob] = [await crowd.joins(running.origin, 'twin', 'Alice'), await crowd.joins(running.origin, 'twin', 'Bob')];
    await allSeeAll(alice, bob);
    const twin = await bob.duplicates();
    await alice.sees('Bob', 'Bob');
    assert.notEqual(twin.peerId, bob.peerId);
    await twin.page.close({ runBeforeUnload: true });
    await alice.sees('Bob');
    await alice.page.locator(`.tile[data-peer-id="${bob.peerId}"][data-state=connected]`).waitFor();
    assert.deepEqual([bob.joined.length, bob.sockets], [1, 1]);
    assert.deepEqual(twin.complaints, []);
  });
});
