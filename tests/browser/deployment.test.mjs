// Calls through the edge with wss, with people on different nodes and Redis between the nodes.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { TestSite, startDeployment } from './servers.mjs';

describe('a call over two nodes behind the edge', () => {
  const site = new TestSite();
  let browser;
  let running;

  before(async () => {
    [browser, running] = await Promise.all([SharedBrowser.launch(), startDeployment(site)]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const join = (room, name) => browser.joins(running.origin, room, name);

  /**
   * Joins two people on two nodes. Each worker of the edge chooses nodes in its own order, so a
   * reload may be necessary.
   */
  async function joinOnTwoNodes(room) {
    const alice = await join(room, 'Alice');
    const bob = await join(room, 'Bob');
    for (let n = 0; n < 12 && bob.node === alice.node; n++) await bob.reloads();
    assert.notEqual(bob.node, alice.node, 'the edge spreads connections over the nodes');
    return [alice, bob];
  }

  it('connects people on different nodes and lets one leave', async () => {
    const [alice, bob] = await joinOnTwoNodes('three');
    await allSeeEachOther(alice, bob);
    const sockets = [alice, bob].flatMap(({ addresses }) => addresses.filter((address) => /^ws/.test(address)));
    assert.ok(sockets.length >= 2 && sockets.every((address) => address.startsWith('wss://')), String(sockets));

    const carol = await join('three', 'Carol');
    await allSeeEachOther(alice, bob, carol);
    await bob.page.click('#leave');
    await Promise.all([alice.sees('Carol'), carol.sees('Alice')]);
    await allSeeEachOther(alice, carol);
  });

  it('reconnects a reloaded page on any node, without a reload of the other pages', async () => {
    const [alice, bob] = await joinOnTwoNodes('reload');
    const carol = await join('reload', 'Carol');
    await allSeeEachOther(alice, bob, carol);
    const old = bob.joined.at(-1).peerId;
    const loads = [alice.loads, carol.loads];
    await bob.reloads();
    await until('the old tile is gone', async () => (await alice.page.locator(`.tile[data-peer-id="${old}"]`).count()) === 0);
    await allSeeEachOther(alice, bob, carol);
    assert.deepEqual([alice.loads, carol.loads], loads);
  });

  it('continues when a node is stopped, and its peers resume once on the other node', async () => {
    const [alice, bob] = await joinOnTwoNodes('restart');
    await allSeeEachOther(alice, bob);
    const loads = [alice.loads, bob.loads];
    const joins = [alice.joined.length, bob.joined.length];
    await running.nodes[0].stop();
    await until('both are on the node that is left', () => alice.node === bob.node);
    await allSeeEachOther(alice, bob);
    await Promise.all([alice.sees('Bob'), bob.sees('Alice')]);
    assert.deepEqual([alice.loads, bob.loads], loads);
    assert.deepEqual([alice.joined.length, bob.joined.length], joins, 'they are the same peers');
  });
});
