// What people do with each other on the call page: chat, raised hands, reactions, and what a host does.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const KEY = randomBytes(32).toString('hex');

describe('people in a call', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(), EmbeddedServer.start(site, { SIGNALBOX_API_KEYS: `backend:${KEY}` })]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const join = (room, name) => browser.joins(server.origin, room, name);
  const joinAs = (role, room, name) => browser.joinsAs(role, `backend:${KEY}`, server.origin, room, name);
  /** Sends a message of an application, as another page could do. */
  const sendsRaw = (person, data) => person.page.evaluate((content) => globalThis.sendRaw(content), data);
  const writes = async ({ page }, message) => {
    if (!(await page.locator('#chat').isVisible())) await page.click('#chat-button');
    await page.fill('#chat-field', message);
    await page.press('#chat-field', 'Enter');
  };
  const messages = ({ page }) => page.locator('#chat-log .chat-text').allTextContents();
  const announced = ({ page }, pattern) => until(`${pattern} is announced`, async () => pattern.test(await page.locator('#announcements').innerText()) || page.locator('#announcements').innerText());
  const personRow = ({ page }, name) => page.locator('#people-list li', { hasText: name });

  describe('the chat', () => {
    it('brings a message to all, with name and time, and counts the unread ones', async () => {
      const [alice, bob, carol] = [await join('chat', 'Alice'), await join('chat', 'Bob'), await join('chat', 'Carol')];
      await allSeeEachOther(alice, bob, carol);
      await writes(alice, 'Hello all');
      for (const other of [bob, carol]) {
        await other.reads('#chat-button', /Chat \(1\)/);
        await announced(other, /Alice writes: Hello all/);
        await other.page.click('#chat-button');
        await other.reads('#chat-log', /Alice\s+\d\d:\d\d.*Hello all/s);
        await other.reads('#chat-button', /Chat$/);
        assert.equal(await other.page.locator('#chat-field:focus').count(), 1);
      }
      await writes(bob, 'Hello Alice');
      await until('Alice has both', async () => String(await messages(alice)) === 'Hello all,Hello Alice');
      assert.equal(await alice.page.locator('#chat-button').innerText(), 'Chat', 'the panel is open');
      const dave = await join('chat', 'Dave');
      await dave.page.click('#chat-button');
      await dave.reads('#chat', /Who joins later does not see earlier messages/);
      assert.deepEqual(await messages(dave), []);
    });

    it('shows markup and dangerous addresses as text, and makes safe links', async () => {
      const [alice, bob] = [await join('links', 'Alice'), await join('links', 'Bob')];
      await allSeeEachOther(alice, bob);
      const text = '<b>x</b> javascript:alert(1) https://user@evil.example/ (see https://a.example/ä?b=1).';
      await writes(alice, text);
      await bob.page.click('#chat-button');
      await until('Bob has the text', async () => String(await messages(bob)) === text);
      const links = await bob.page.locator('#chat-log a').evaluateAll((found) => found.map(({ href, rel, target }) => ({ href, rel, target })));
      assert.deepEqual(links, [{ href: 'https://a.example/%C3%A4?b=1', rel: 'noopener noreferrer', target: '_blank' }]);
      assert.equal(await bob.page.locator('#chat-log .chat-text *:not(a)').count(), 0);
    });

    it('ignores messages of other applications', async () => {
      const [alice, bob] = [await join('foreign', 'Alice'), await browser.person()];
      await bob.page.goto(`${server.origin}/?room=elsewhere`);
      await bob.page.evaluate(async (room) => {
        const { join: joinRoom } = await import('/client/room.js');
        const joined = await joinRoom({ room, name: 'Bob' });
        globalThis.sendRaw = (data) => joined.send(data).then(() => true);
      }, 'foreign');
      for (const data of ['text', null, 7, ['chat'], { text: 'no type' }, { type: 'chat', text: 'another type' }, { type: 'signalbox-call.chat' }, { type: 'signalbox-call.chat', text: { a: 1 } }, { type: 'signalbox-call.reaction', reaction: 'constructor' }]) {
        await sendsRaw(bob, data);
      }
      await sendsRaw(bob, { type: 'signalbox-call.chat', text: 'the last one' });
      await until('only the last one counts', async () => (await alice.page.locator('#chat-button').innerText()) === 'Chat (1)');
      assert.deepEqual(await messages(alice), ['the last one']);
      assert.equal(await alice.page.locator('.tile-reaction').count(), 0);
    });

    it('keeps a message that could not be sent, with the reason', async () => {
      const small = await EmbeddedServer.start(site, { SIGNALBOX__LIMITS__DATA: '1KiB' });
      const [alice, bob] = [await browser.joins(small.origin, 'long', 'Alice'), await browser.joins(small.origin, 'long', 'Bob')];
      await allSeeEachOther(alice, bob);
      await writes(alice, 'x'.repeat(1_500));
      await alice.reads('.chat-message .chat-state', /too long for this server/);
      await alice.page.getByRole('button', { name: 'Edit' }).click();
      assert.equal((await alice.page.inputValue('#chat-field')).length, 1_500);
      assert.deepEqual(await messages(alice), []);
      await writes(alice, 'short');
      await bob.page.click('#chat-button');
      await until('Bob has the short one alone', async () => String(await messages(bob)) === 'short');
    });

    it('sends a message that waited for the connection', async () => {
      const [alice, bob] = [await join('waits', 'Alice'), await join('waits', 'Bob')];
      await allSeeEachOther(alice, bob);
      await alice.page.context().setOffline(true);
      await alice.page.evaluate(() => dispatchEvent(new Event('offline')));
      await until('Alice has no connection', () => alice.page.evaluate(() => document.body.getAttribute('data-state') !== 'open'));
      await writes(alice, 'later');
      await alice.reads('.chat-message .chat-state', /Waits for the connection/);
      await alice.page.context().setOffline(false);
      await bob.page.click('#chat-button');
      await until('Bob has it once', async () => String(await messages(bob)) === 'later');
      await alice.page.locator('.chat-state:not(:empty)').waitFor({ state: 'detached' });
    });

    it('is read by a viewer, who cannot write', async () => {
      const [hanna, victor] = [await joinAs('host', 'reader', 'Hanna'), await joinAs('viewer', 'reader', 'Victor')];
      await victor.seesAndHears(1);
      await victor.page.click('#chat-button');
      await victor.reads('#chat-read-only', /cannot write/);
      assert.equal(await victor.page.locator('#chat-form').isVisible(), false);
      assert.equal(await victor.page.locator('#reactions-button').isVisible(), false);
      await writes(hanna, 'Welcome');
      await until('Victor reads it', async () => String(await messages(victor)) === 'Welcome');
    });
  });

  describe('a raised hand', () => {
    it('is seen by all in its order, also by who joins later, and a host lowers it', async () => {
      const [hanna, bob, carol] = [await joinAs('host', 'hands', 'Hanna'), await join('hands', 'Bob'), await join('hands', 'Carol')];
      await allSeeEachOther(hanna, bob, carol);
      await carol.page.keyboard.press('h');
      await announced(hanna, /Carol has raised a hand/);
      await announced(bob, /Carol has raised a hand/);
      await bob.page.click('#hand-button');
      await announced(hanna, /Bob has raised a hand/);
      assert.equal(await bob.page.getAttribute('#hand-button', 'aria-pressed'), 'true');
      const dave = await join('hands', 'Dave');
      for (const person of [hanna, dave]) {
        await person.page.click('#people-button');
        await until('both hands in their order', async () => {
          const rows = (await person.page.locator('#people-list li').allInnerTexts()).slice(1, 3).join(' | ');
          return /^Carol.*number 1.*\| Bob.*number 2/s.test(rows) || rows;
        });
        assert.equal(await person.page.locator('.tile[data-hand][data-peer-id]').count(), 2);
      }
      assert.equal(await personRow(bob, 'Carol').getByRole('button').count(), 0, 'Bob is no host');
      await personRow(hanna, 'Carol').getByRole('button', { name: 'Lower the hand of Carol' }).click();
      await carol.reads('#notice', /Hanna has lowered your hand/);
      await until('only the hand of Bob is up', () => dave.page.locator('.tile[data-hand][data-peer-id]').count().then((count) => count === 1));
      await until('Bob is the first one', async () => /number 1/.test(await personRow(dave, 'Bob').innerText()));
      await bob.page.keyboard.press('h');
      await until('no hand is up', () => dave.page.locator('.tile[data-hand]').count().then((count) => count === 0));
    });

    it('does not change what the record says about microphone and camera', async () => {
      const [alice, bob] = [await join('record', 'Alice'), await join('record', 'Bob')];
      await allSeeEachOther(alice, bob);
      await alice.toggles('audio');
      await bob.page.locator('.tile[data-peer-id][data-muted]').waitFor();
      await alice.page.keyboard.press('h');
      await bob.page.locator('.tile[data-peer-id][data-muted][data-hand]').waitFor();
      await alice.toggles('audio');
      await bob.page.locator('.tile[data-peer-id][data-hand]:not([data-muted])').waitFor();
    });
  });

  describe('a reaction', () => {
    const reacts = async ({ page }, label) => {
      await page.click('#reactions-button');
      await page.getByRole('button', { name: label }).click();
    };

    it('stands on the tile for some seconds and is announced once', async () => {
      const [alice, bob] = [await join('react', 'Alice'), await join('react', 'Bob')];
      await allSeeEachOther(alice, bob);
      await reacts(alice, 'applause');
      await bob.page.locator('.tile[data-peer-id] .tile-reaction', { hasText: '👏' }).waitFor();
      await alice.page.locator('.tile.self .tile-reaction', { hasText: '👏' }).waitFor();
      await announced(bob, /^Alice reacts: applause$/);
      await bob.page.locator('.tile-reaction').waitFor({ state: 'detached' });
    });

    it('is limited in number on both sides', async () => {
      const [alice, bob] = [await join('flood', 'Alice'), await join('flood', 'Bob')];
      await allSeeEachOther(alice, bob);
      for (let sent = 0; sent < 6; sent += 1) await reacts(alice, 'heart');
      await alice.reads('#notice', /That were many reactions/);
      const eve = await browser.person();
      await eve.page.goto(`${server.origin}/?room=elsewhere`);
      await eve.page.evaluate(async () => {
        const { join: joinRoom } = await import('/client/room.js');
        const joined = await joinRoom({ room: 'flood', name: 'Eve' });
        for (let sent = 0; sent < 20; sent += 1) await joined.send({ type: 'signalbox-call.reaction', reaction: 'laugh' });
        await joined.send({ type: 'signalbox-call.chat', text: 'done' });
      });
      await announced(bob, /Eve writes: done/);
      assert.equal((await bob.page.locator('#announcements').innerText()).match(/Eve reacts/g).length, 5);
    });
  });

  describe('the lobby', () => {
    it('says whether the host is there, and admits', async () => {
      const headers = { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(`backend:${KEY}`).toString('base64')}` };
      assert.equal((await fetch(`${server.origin}/api/rooms`, { method: 'POST', headers, body: '{"id":"lobby","lobby":true}' })).status, 201);
      const bob = await browser.person();
      await bob.page.goto(`${server.origin}/?room=lobby&name=Bob&autojoin=1`);
      await bob.reads('#waiting', /The host has not come yet/);
      const hanna = await joinAs('host', 'lobby', 'Hanna');
      await bob.reads('#waiting', /A moderator is in the call, sees that you are waiting/);
      await hanna.page.locator('#knocks li', { hasText: 'Bob' }).getByRole('button', { name: 'Admit Bob' }).click();
      await allSeeEachOther(hanna, bob);
      const carol = await browser.person();
      await carol.page.goto(`${server.origin}/?room=lobby&name=Carol&autojoin=1`);
      await announced(hanna, /Carol waits in the lobby/);
      await hanna.page.click('#leave');
      await carol.reads('#waiting', /The host has not come yet/);
    });
  });

  describe('a host', () => {
    it('is told how a removed guest could return, and locks the room in the same step', async () => {
      const [hanna, bob] = [await joinAs('host', 'return', 'Hanna'), await join('return', 'Bob')];
      await allSeeEachOther(hanna, bob);
      await hanna.page.click('#people-button');
      await personRow(hanna, 'Bob').getByRole('button', { name: /^Remove Bob/ }).click();
      await hanna.reads('#confirm', /Bob is a guest: with the link, a guest can return as a new person/);
      await hanna.page.check('#confirm-option');
      await hanna.page.click('#confirm-yes');
      await bob.reads('#start-error', /A moderator removed you/);
      await bob.reads('#start-title', /You are no longer in the call/);
      await bob.reads('#join-button', /Try again/);
      assert.equal(await bob.page.locator('#join-button.primary').count(), 0, 'no invitation to come back');
      await bob.page.fill('#room', 'another');
      assert.equal(await bob.page.locator('#join-button.primary').innerText(), 'Join the call');
      const again = await browser.person();
      await again.page.goto(`${server.origin}/?room=return&name=Bob&autojoin=1`);
      await again.reads('#start-error', /is locked/);
    });

    it('is told that a known user cannot return', async () => {
      const [hanna, bob] = [await joinAs('host', 'known', 'Hanna'), await joinAs('speaker', 'known', 'Bob')];
      await allSeeEachOther(hanna, bob);
      await hanna.page.click('#people-button');
      await personRow(hanna, 'Bob').getByRole('button', { name: /^Remove Bob/ }).click();
      await hanna.reads('#confirm', /Bob leaves the call at once and cannot return to it/);
      await hanna.page.click('#confirm-yes');
      await bob.reads('#start-error', /A moderator removed you/);
      await bob.page.click('#join-button');
      await bob.reads('#start-error', /A moderator removed you/);
    });

    it('ends the call and locks the room', async () => {
      const [hanna, bob] = [await joinAs('host', 'over', 'Hanna'), await join('over', 'Bob')];
      await allSeeEachOther(hanna, bob);
      await hanna.page.click('#people-button');
      await hanna.page.click('#end');
      await hanna.page.check('#confirm-option');
      await hanna.page.click('#confirm-yes');
      await bob.reads('#start-error', /has ended/);
      await bob.page.click('#join-button');
      await bob.reads('#start-error', /is locked/);
    });
  });

  describe('the help', () => {
    it('says how each connection is, and gives a report without names and addresses', async () => {
      const [alice, bob] = [await join('help', 'Alice'), await join('help', 'Bob')];
      await allSeeEachOther(alice, bob);
      await alice.page.context().grantPermissions(['clipboard-read', 'clipboard-write', 'camera', 'microphone']);
      await alice.page.keyboard.press('?');
      await alice.reads('#help-list', /Server\s+Connected\..*Bob\s+Connected directly, over UDP\. There and back: \d+ ms\./s);
      await alice.page.click('#help-copy');
      await alice.reads('#help-copied', /The report is copied/);
      const report = await alice.page.evaluate(() => navigator.clipboard.readText());
      assert.match(report, /^Signalbox call report\n\d{4}-\d\d-\d\d \d\d:\d\d UTC, Chrome \d+\nServer: open\n\nPerson 1: connected\nWay: \w+ to \w+, udp, \d+ ms\nCandidates: /);
      assert.doesNotMatch(report, /Alice|Bob|127\.0|localhost|::1|\d+\.\d+\.\d+/);
    });

    it('says why there is no connection, in words', async () => {
      const relayed = await EmbeddedServer.start(site, { SIGNALBOX__ICE__POLICY: 'relay' });
      const [alice, bob] = [await browser.joins(relayed.origin, 'none', 'Alice'), await browser.joins(relayed.origin, 'none', 'Bob')];
      await alice.page.click('#more-button');
      await alice.page.click('#help-button');
      await alice.reads('#help-list', /Bob\s+There is no direct way, and this server has no relay/);
      await bob.reads('.tile[data-peer-id] .tile-state', /this server has no relay/);
      await alice.page.evaluate(() => (navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))));
      await alice.page.click('#help-copy');
      await until('the report is there to be copied by hand', async () => /Trouble: no_relay/.test(await alice.page.inputValue('#help-report')));
    });
  });

  it('who leaves can join again at once', async () => {
    const alice = await join('again', 'Alice');
    await alice.page.click('#leave');
    await alice.reads('#start-title', /You have left the call/);
    assert.equal(await alice.page.locator('#join-button.primary:focus').innerText(), 'Join again');
    await alice.page.keyboard.press('Enter');
    await until('Alice is back', () => alice.joined.length === 2);
  });
});
