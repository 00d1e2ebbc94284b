// axe finds no violation in any state of the pages, in dark and in light colors.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const KEY = randomBytes(32).toString('hex');
const PHONE = { width: 390, height: 844 };

/** Checks the page as it is now. */
async function passes({ page }, state) {
  for (const colorScheme of ['dark', 'light']) {
    // A color on its way to another one is neither of them.
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(AXE);
    const { violations, passes: passed } = await page.evaluate(() => globalThis.axe.run(document));
    assert.ok(passed.length > 10, 'axe has checked the page');
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`), [], `${state}, ${colorScheme}`);
  }
}

describe('axe finds no violation', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(), EmbeddedServer.start(site, { SIGNALBOX_API_KEYS: `backend:${KEY}` })]);
    const headers = { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(`backend:${KEY}`).toString('base64')}` };
    assert.equal((await fetch(`${server.origin}/api/rooms`, { method: 'POST', headers, body: '{"id":"lobby","lobby":true}' })).status, 201);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });

  const join = (room, name, options) => browser.joins(server.origin, room, name, options);
  const hosts = (room, name) => browser.joinsAs('host', `backend:${KEY}`, server.origin, room, name);
  const opens = async (query, options) => {
    const person = await browser.person(options);
    await person.page.goto(`${server.origin}/?${query}`);
    return person;
  };

  it('on the start page, with and without devices, and after a refusal', async () => {
    const alice = await opens('room=start');
    await alice.page.locator('.start-page[data-video]').waitFor();
    await passes(alice, 'start');
    await alice.page.fill('#room', 'no/room');
    await alice.page.click('#join-button');
    await alice.reads('#start-error', /cannot be used/);
    await passes(alice, 'refused');
    const bob = await opens('room=start', { camera: false, viewport: PHONE });
    await bob.page.locator('#media-note:not(:empty)').waitFor();
    await passes(bob, 'devices denied');
    await bob.page.locator('[data-opens=settings]:visible').click();
    await passes(bob, 'settings');
    await browser.closePages();
  });

  it('alone, with two people and in a grid', async () => {
    const alice = await join('grow', 'Alice');
    await alice.page.locator('#alone').waitFor();
    await passes(alice, 'alone');
    const bob = await join('grow', 'Bob', { viewport: PHONE });
    await allSeeEachOther(alice, bob);
    await passes(alice, 'two');
    await passes(bob, 'two on a phone');
    const carol = await join('grow', 'Carol');
    await allSeeEachOther(alice, bob, carol);
    await alice.toggles('audio');
    await alice.toggles('video');
    await bob.page.locator('.tile[data-peer-id][data-muted]:not([data-video])').waitFor();
    await passes(bob, 'grid on a phone');
    await passes(alice, 'grid');
    await carol.page.evaluate(() => {
      const canvas = document.createElement('canvas');
      const context = canvas.getContext('2d');
      setInterval(() => context.fillRect(0, 0, (performance.now() / 10) % canvas.width, canvas.height), 50);
      // The browser of the test has no screen.
      navigator.mediaDevices.getDisplayMedia = async () => canvas.captureStream(20);
    });
    await carol.page.click('#screen-button');
    await alice.page.locator('.tile.screen').waitFor();
    await passes(carol, 'shares the screen');
    await passes(alice, 'sees a screen');
    await alice.page.click('#more-button');
    await passes(alice, 'the menu');
    await alice.page.click('#layout-button');
    await passes(alice, 'speaker view');
    await alice.page.click('#leave');
    await alice.reads('#start-title', /You have left the call/);
    await passes(alice, 'left');
    await browser.closePages();
  });

  it('in the panels and the menus', async () => {
    const [alice, bob] = [await join('panels', 'Alice'), await join('panels', 'Bob')];
    await allSeeEachOther(alice, bob);
    await alice.page.click('#chat-button');
    await passes(alice, 'empty chat');
    await alice.page.fill('#chat-field', `See https://a.example/ ${'x'.repeat(3_900)}`);
    await passes(alice, 'a long message');
    await alice.page.press('#chat-field', 'Enter');
    await bob.page.locator('#chat-button[data-unread]').waitFor();
    await passes(bob, 'unread message');
    await passes(alice, 'chat');
    await alice.page.click('#hand-button');
    await bob.page.click('#reactions-button');
    await passes(bob, 'reactions');
    await bob.page.locator('#reactions button').first().click();
    await bob.page.click('#people-button');
    await alice.page.locator('.tile-reaction').waitFor();
    await passes(alice, 'a reaction');
    await passes(bob, 'people');
    await bob.page.keyboard.press('?');
    await bob.page.locator('#help-list li').nth(1).waitFor();
    await passes(bob, 'help');
    await browser.closePages();
  });

  it('for a host, also in the questions, and for the guest who is out', async () => {
    const [hanna, bob] = [await hosts('host', 'Hanna'), await join('host', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    await passes(hanna, 'people of a host');
    await hanna.page.getByRole('button', { name: /^Stop microphone and camera of Bob/ }).click();
    await bob.reads('#permission', /stopped/);
    await passes(bob, 'stopped');
    await hanna.page.click('#end');
    await passes(hanna, 'end?');
    await hanna.page.keyboard.press('Escape');
    await hanna.page.getByRole('button', { name: /^Remove Bob/ }).click();
    await passes(hanna, 'remove?');
    await hanna.page.check('#confirm-option');
    await hanna.page.click('#confirm-yes');
    await bob.page.locator('#start-error:not(:empty)').waitFor();
    await passes(bob, 'removed');
    await hanna.page.locator('#locked').waitFor();
    await passes(hanna, 'locked');
    await browser.closePages();
  });

  it('on both sides of the lobby', async () => {
    const bob = await opens('room=lobby&name=Bob&autojoin=1');
    await bob.page.locator('#waiting').waitFor();
    await passes(bob, 'in the lobby');
    const hanna = await hosts('lobby', 'Hanna');
    await hanna.page.locator('#knocks').waitFor();
    await passes(hanna, 'a knock');
    await browser.closePages();
  });

  it('while the connection to the server is lost', async () => {
    const [alice, bob] = [await join('lost', 'Alice'), await join('lost', 'Bob')];
    await allSeeEachOther(alice, bob);
    await alice.page.context().setOffline(true);
    await alice.page.evaluate(() => dispatchEvent(new Event('offline')));
    await alice.reads('#status', /Reconnecting to the server/);
    await passes(alice, 'reconnecting');
    await browser.closePages();
  });

  it('on the check page, before a run, while it runs, and after it', async () => {
    const alice = await browser.person({ viewport: PHONE });
    await alice.page.goto(`${server.origin}/check`);
    await passes(alice, 'ready');
    await alice.page.click('#start');
    await passes(alice, 'running');
    await until('the check has ended', () => alice.page.evaluate(() => document.body.getAttribute('data-check') === 'ended'), 40_000);
    await passes(alice, 'ended');
    await browser.closePages();
  });
});
