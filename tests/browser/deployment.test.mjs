// The same calls through the edge, by wss, with people on different nodes: what one process does for itself, two do over Redis.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Site, deployment } from './servers.mjs';

describe('a call over two nodes behind the edge', () => {
  const site = new Site();
  let crowd;
  let running;

  before(async () => {
    [crowd, running] = await Promise.all([Crowd.gather(), deployment(site)]);
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

  const join = (room, name) => crowd.joins(running.origin, room, name);

  /** Two people on two nodes. The edge takes the nodes in turn, but each of its workers has a turn of its own. */
  async function apart(room) {
    const alice = await join(room, 'Alice');
    const bob = await join(room, 'Bob');
    for (let n = 0; n < 12 && bob.node === alice.node; n++) await bob.reloads();
    assert.notEqual(bob.node, alice.node, 'the edge spreads connections over the nodes');
    return [alice, bob];
  }

  it('shows two people on different nodes to each other, a third to both, and lets one leave', async () => {
    const [alice, bob] = await apart('three');
    await allSeeAll(alice, bob);
    const sockets = [alice, bob].flatMap(({ addresses }) => addresses.filter((address) => /^ws/.test(address)));
    assert.ok(sockets.length >= 2 && sockets.every((address) => address.startsWith('wss://')), String(sockets));

    const carol = await join('three', 'Carol');
    await allSeeAll(alice, bob, carol);
    await bob.page.click('#leave');
    await Promise.all([alice.sees('Carol'), carol.sees('Alice')]);
    await allSeeAll(alice, carol);
  });

  it('has whoever reloads back in it, on whichever node, while nobody else reloads', async () => {
    const [alice, bob] = await apart('reload');
    const carol = await join('reload', 'Carol');
    await allSeeAll(alice, bob, carol);
    const old = bob.joined.at(-1).peerId;
    const loads = [alice.loads, carol.loads];
    await bob.reloads();
    await until('the old tile is gone', async () => (await alice.page.locator(`.tile[data-peer-id="${old}"]`).count()) === 0);
    await allSeeAll(alice, bob, carol);
    assert.deepEqual([alice.loads, carol.loads], loads);
  });

  it('goes on when a node is stopped: whoever was on it comes back on the other, and is there once', async () => {
    const [alice, bob] = await apart('restart');
    await allSeeAll(alice, bob);
    const loads = [alice.loads, bob.loads];
    const joins = [alice.joined.length, bob.joined.length];
    await running.nodes[0].stop();
    await until('both are on the node that is left', () => alice.node === bob.node);
    await allSeeAll(alice, bob);
    await Promise.all([alice.sees('Bob'), bob.sees('Alice')]);
    assert.deepEqual([alice.loads, bob.loads], loads);
    assert.deepEqual([alice.joined.length, bob.joined.length], joins, 'as the same peers');
  });
});
