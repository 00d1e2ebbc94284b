// Calls by the call page through one process with its defaults: what people see of each other, and what the page tells them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Embedded, Site } from './servers.mjs';
import { Witness } from './witness.mjs';

describe('a call by the call page', () => {
  const site = new Site();
  let crowd;
  let server;

  before(async () => {
    [crowd, server] = await Promise.all([Crowd.gather(), Embedded.start(site)]);
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

  const join = (room, name, options) => crowd.joins(server.origin, room, name, options);

  it('shows two people to each other, a third to both, and lets one leave', async () => {
    const alice = await join('three', 'Alice');
    const bob = await join('three', 'Bob');
    await allSeeAll(alice, bob);
    const carol = await join('three', 'Carol');
    await allSeeAll(alice, bob, carol);
    await alice.sees('Bob', 'Carol');
    await alice.reads('#status', /2 other people are here/);

    await bob.page.click('#leave');
    await Promise.all([alice.sees('Carol'), carol.sees('Alice')]);
    await allSeeAll(alice, carol);
    assert.equal(await bob.page.locator('#lobby').isVisible(), true, 'who left is in the lobby');
    await until('who left sends nothing more', async () => (await bob.traffic()).length === 0);
  });

  it('has whoever reloads back in it, while nobody else reloads', async () => {
    const [alice, bob, carol] = [await join('reload', 'Alice'), await join('reload', 'Bob'), await join('reload', 'Carol')];
    await allSeeAll(alice, bob, carol);
    const old = bob.joined.at(-1).peerId;
    const tile = alice.page.locator(`.tile[data-peer-id="${old}"]`);
    assert.equal(await tile.count(), 1);
    const loads = [alice.loads, carol.loads];

    await bob.reloads();
    await until('the old tile is gone', async () => (await tile.count()) === 0);
    await allSeeAll(alice, bob, carol);
    await alice.sees('Bob', 'Carol');
    assert.notEqual(bob.joined.at(-1).peerId, old);
    assert.deepEqual([alice.loads, carol.loads], loads);
  });

  it('goes on while the server is gone, says so in words, and is whole again when it is back', async () => {
    const [alice, bob] = [await join('gone', 'Alice'), await join('gone', 'Bob')];
    // It makes a secret of its own at each start, so what it gave before is worth nothing.
    for (const person of [alice, bob]) person.expected = /status of 401/;
    await allSeeAll(alice, bob);
    const loads = [alice.loads, bob.loads];

    await server.kill();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /Reconnecting to the server/)));
    await allSeeAll(alice, bob);

    await server.start();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /One other person is here/)));
    await allSeeAll(alice, bob);
    assert.deepEqual([alice.loads, bob.loads], loads);
    assert.deepEqual([alice.joined.length, bob.joined.length], [2, 2]);
  });

  it('is one call over a restart of the server, where its secret stays the same', async () => {
    const kept = await Embedded.start(site, { AUTH_SECRET: randomBytes(48).toString('base64') });
    const [alice, bob] = [await crowd.joins(kept.origin, 'kept', 'Alice'), await crowd.joins(kept.origin, 'kept', 'Bob')];
    await allSeeAll(alice, bob);
    const witnesses = await Promise.all([alice, bob].map((person) => Witness.of(person)));
    await kept.kill();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /Reconnecting to the server/)));
    await kept.start();
    await until('both are back', () => [alice, bob].every(({ resumed }) => resumed.length > 0));
    assert.ok([alice, bob].every(({ resumed }) => !resumed[0].recovered), 'nothing was kept, so nothing is claimed');
    await bob.toggles('video');
    await alice.page.locator('.tile[data-peer-id]:not([data-video])').waitFor();
    await bob.toggles('video');
    await allSeeAll(alice, bob);
    await Promise.all([alice, bob].map((person) => person.reads('#status', /One other person is here/)));
    for (const witness of witnesses) await witness.sawNothing({ darkTile: true });
  });

  it('takes people without a camera, and says what to do about it', async () => {
    const alice = await join('dark', 'Alice');
    const bob = await crowd.person({ camera: false });
    await bob.page.goto(`${server.origin}/?room=dark&name=Bob`);
    await bob.reads('#media-note', /blocked for this page.*see and hear the others/);
    await bob.page.click('#join-button');
    await bob.seesAndHears(1);
    await bob.reads('#call-problem', /blocked for this page/);
    await alice.sees('Bob');
    assert.equal(await alice.page.locator('.tile[data-peer-id][data-video]').count(), 0, 'there is no picture of Bob');
    await alice.page.locator('.tile[data-peer-id][data-state=connected][data-muted]').waitFor();
    await alice.page.locator('.tile[data-peer-id] .avatar').getByText('B').waitFor();
  });

  it('can be joined, muted, darkened and left with the keyboard alone', async () => {
    const alice = await join('keys', 'Alice');
    const bob = await crowd.person();
    const { keyboard } = bob.page;
    const focused = () => bob.page.evaluate(() => document.activeElement?.innerText.trim() || document.activeElement?.id);
    const tabTo = async (wanted) => {
      for (let n = 0; n < 15 && (await focused()) !== wanted; n++) await keyboard.press('Tab');
      assert.equal(await focused(), wanted);
      const outline = await bob.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.equal(outline, 'solid', `${wanted} shows that it has the focus`);
    };
    await bob.page.goto(`${server.origin}/?room=keys`);
    await until('the name has the focus', async () => (await focused()) === 'name');
    await keyboard.type('Bob');
    await tabTo('Join the call');
    await keyboard.press('Enter');
    await allSeeAll(alice, bob);

    const sends = async () => (await bob.traffic())[0]?.sends;
    const expectSending = (what, audio, video) =>
      until(what, async () => {
        const now = await sends();
        return (now?.audio === audio && now.video === video) || now;
      });
    const tile = (state) => alice.page.locator(`.tile[data-peer-id]${state}`).waitFor();
    await tabTo('Mute');
    await keyboard.press('Space');
    await expectSending('Bob is silent', false, true);
    assert.equal(await focused(), 'Unmute');
    await tile('[data-muted][data-video]');
    await tabTo('Camera off');
    await keyboard.press('Enter');
    await expectSending('Bob is dark', false, false);
    await tile('[data-muted]:not([data-video])');
    await keyboard.press('Enter');
    await keyboard.press('Shift+Tab');
    assert.equal(await focused(), 'Unmute');
    await keyboard.press('Enter');
    await expectSending('Bob is back', true, true);
    await tile('[data-video]:not([data-muted])');
    await allSeeAll(alice, bob);

    await tabTo('Leave');
    await keyboard.press('Enter');
    await alice.sees();
    assert.equal(await bob.page.locator('#lobby').isVisible(), true);
  });

  it('says that the room is full, and to whom it is, and takes the next one when there is a place', async () => {
    const small = await Embedded.start(site, { SIGNALBOX__LIMITS__ROOM_PEERS: '2' });
    const alice = await crowd.joins(small.origin, 'small', 'Alice');
    const bob = await crowd.joins(small.origin, 'small', 'Bob');
    await allSeeAll(alice, bob);
    const carol = await crowd.person();
    await carol.page.goto(`${small.origin}/?room=small&name=Carol&autojoin=1`);
    await carol.reads('#lobby-error', /could not join “small”, because it has as many people as it takes/);
    await allSeeAll(alice, bob);
    await alice.sees('Bob');

    await bob.page.click('#leave');
    await alice.sees();
    await carol.page.click('#join-button');
    await allSeeAll(alice, carol);
  });
});
