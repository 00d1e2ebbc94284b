// Calls on the call page with one process and its default settings: the media and the texts.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';
import { StageObserver } from './stage-observer.mjs';

describe('a call on the call page', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(), EmbeddedServer.start(site)]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const join = (room, name, options) => browser.joins(server.origin, room, name, options);

  it('connects three people and lets one leave', async () => {
    const alice = await join('three', 'Alice');
    const bob = await join('three', 'Bob');
    await allSeeEachOther(alice, bob);
    const carol = await join('three', 'Carol');
    await allSeeEachOther(alice, bob, carol);
    await alice.sees('Bob', 'Carol');
    await alice.reads('#status', /2 other people are here/);

    await bob.page.click('#leave');
    await Promise.all([alice.sees('Carol'), carol.sees('Alice')]);
    await allSeeEachOther(alice, carol);
    assert.equal(await bob.page.locator('#start-page').isVisible(), true, 'Bob is on the start page');
    await until('Bob sends no media', async () => (await bob.traffic()).length === 0);
  });

  it('reconnects a reloaded page without a reload of the other pages', async () => {
    const [alice, bob, carol] = [await join('reload', 'Alice'), await join('reload', 'Bob'), await join('reload', 'Carol')];
    await allSeeEachOther(alice, bob, carol);
    const old = bob.joined.at(-1).peerId;
    const tile = alice.page.locator(`.tile[data-peer-id="${old}"]`);
    assert.equal(await tile.count(), 1);
    const loads = [alice.loads, carol.loads];

    await bob.reloads();
    await until('the old tile is gone', async () => (await tile.count()) === 0);
    await allSeeEachOther(alice, bob, carol);
    await alice.sees('Bob', 'Carol');
    assert.notEqual(bob.joined.at(-1).peerId, old);
    assert.deepEqual([alice.loads, carol.loads], loads);
  });

  it('shows a newcomer no tile of a person whose tab is closed', async () => {
    const [alice, bob] = [await join('closed', 'Alice'), await join('closed', 'Bob')];
    await allSeeEachOther(alice, bob);
    await bob.page.close({ runBeforeUnload: true });
    const carol = await join('closed', 'Carol');
    await carol.sees('Alice');
    await alice.sees('Carol');
    await carol.reads('#status', /One other person is here/);
    await carol.reads('#people-button', /People \(2\)/);
  });

  it('continues without the server, shows that it reconnects, and recovers when the server returns', async () => {
    const [alice, bob] = [await join('gone', 'Alice'), await join('gone', 'Bob')];
    // The server creates a new secret at each start, so its old tokens and handles are invalid.
    for (const person of [alice, bob]) person.expectedProblems = /status of 401/;
    await allSeeEachOther(alice, bob);
    const loads = [alice.loads, bob.loads];

    await server.kill();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /Reconnecting to the server/)));
    await allSeeEachOther(alice, bob);

    await server.start();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /One other person is here/)));
    await allSeeEachOther(alice, bob);
    assert.deepEqual([alice.loads, bob.loads], loads);
    assert.deepEqual([alice.joined.length, bob.joined.length], [2, 2]);
  });

  it('continues as the same call over a restart of the server with the same secret', async () => {
    const sameSecret = await EmbeddedServer.start(site, { AUTH_SECRET: randomBytes(48).toString('base64') });
    const [alice, bob] = [await browser.joins(sameSecret.origin, 'kept', 'Alice'), await browser.joins(sameSecret.origin, 'kept', 'Bob')];
    await allSeeEachOther(alice, bob);
    const observers = await Promise.all([alice, bob].map((person) => StageObserver.start(person)));
    await sameSecret.kill();
    await Promise.all([alice, bob].map((person) => person.reads('#status', /Reconnecting to the server/)));
    await sameSecret.start();
    await until('both are back', () => [alice, bob].every(({ resumed }) => resumed.length > 0));
    assert.ok([alice, bob].every(({ resumed }) => !resumed[0].recovered), 'the server kept no state, so it cannot recover');
    await bob.toggles('video');
    await alice.page.locator('.tile[data-peer-id]:not([data-video])').waitFor();
    await bob.toggles('video');
    await allSeeEachOther(alice, bob);
    await Promise.all([alice, bob].map((person) => person.reads('#status', /One other person is here/)));
    for (const observer of observers) await observer.assertCallUndisturbed({ allowNoVideo: true });
  });

  it('admits people without a camera and explains what to do', async () => {
    const alice = await join('dark', 'Alice');
    const bob = await browser.person({ camera: false });
    await bob.page.goto(`${server.origin}/?room=dark&name=Bob`);
    await bob.reads('#media-note', /blocked for this page.*see and hear the others/);
    await bob.page.click('#join-button');
    await bob.seesAndHears(1);
    await bob.reads('#call-problem', /blocked for this page/);
    await alice.sees('Bob');
    assert.equal(await alice.page.locator('.tile[data-peer-id][data-video]').count(), 0, 'no tile shows video of Bob');
    await alice.page.locator('.tile[data-peer-id][data-state=connected][data-muted]').waitFor();
    await alice.page.locator('.tile[data-peer-id] .avatar').getByText('B').waitFor();
  });

  it('can be joined, muted, switched to no camera and left with the keyboard alone', async () => {
    const alice = await join('keys', 'Alice');
    const bob = await browser.person();
    const { keyboard } = bob.page;
    const focused = () => bob.page.evaluate(() => document.activeElement?.innerText.trim() || document.activeElement?.id);
    const tabTo = async (label) => {
      for (let n = 0; n < 15 && (await focused()) !== label; n++) await keyboard.press('Tab');
      assert.equal(await focused(), label);
      const outline = await bob.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.equal(outline, 'solid', `${label} has a visible focus`);
    };
    await bob.page.goto(`${server.origin}/?room=keys`);
    await until('the name has the focus', async () => (await focused()) === 'name');
    await keyboard.type('Bob');
    await tabTo('Join the call');
    await keyboard.press('Enter');
    await allSeeEachOther(alice, bob);

    const sends = async () => (await bob.traffic())[0]?.sends;
    const expectSending = (description, audio, video) =>
      until(description, async () => {
        const now = await sends();
        return (now?.audio === audio && now.video === video) || now;
      });
    const tile = (state) => alice.page.locator(`.tile[data-peer-id]${state}`).waitFor();
    await tabTo('Mute');
    await keyboard.press('Space');
    await expectSending('Bob sends no sound', false, true);
    assert.equal(await focused(), 'Unmute');
    await tile('[data-muted][data-video]');
    await tabTo('Camera off');
    await keyboard.press('Enter');
    await expectSending('Bob sends no media', false, false);
    await tile('[data-muted]:not([data-video])');
    await keyboard.press('Enter');
    await keyboard.press('Shift+Tab');
    assert.equal(await focused(), 'Unmute');
    await keyboard.press('Enter');
    await expectSending('Bob sends sound and video', true, true);
    await tile('[data-video]:not([data-muted])');
    await allSeeEachOther(alice, bob);

    await tabTo('Leave');
    await keyboard.press('Enter');
    await alice.sees();
    assert.equal(await bob.page.locator('#start-page').isVisible(), true);
  });

  it('says that the room is full, and admits the next person when there is space', async () => {
    const small = await EmbeddedServer.start(site, { SIGNALBOX__LIMITS__ROOM_PEERS: '2' });
    const alice = await browser.joins(small.origin, 'small', 'Alice');
    const bob = await browser.joins(small.origin, 'small', 'Bob');
    await allSeeEachOther(alice, bob);
    const carol = await browser.person();
    await carol.page.goto(`${small.origin}/?room=small&name=Carol&autojoin=1`);
    await carol.reads('#start-error', /could not join “small”, because it has as many people as it takes/);
    await allSeeEachOther(alice, bob);
    await alice.sees('Bob');

    await bob.page.click('#leave');
    await alice.sees();
    await carol.page.click('#join-button');
    await allSeeEachOther(alice, carol);
  });
});
