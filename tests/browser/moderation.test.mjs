// The actions of a host, as the host and the guests see them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const KEY = randomBytes(32).toString('hex');

describe('a host', () => {
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
  const personButton = (person, name, button) => person.page.locator('#people-list li', { hasText: name }).getByRole('button', { name: button });

  it('has controls that a guest does not have', async () => {
    const [hanna, bob] = [await joinAs('host', 'controls', 'Hanna'), await join('controls', 'Bob')];
    await allSeeEachOther(hanna, bob);
    for (const { page } of [hanna, bob]) await page.click('#people-button');
    await until('Hanna may lock, have a lobby, end, mute and remove', () => hanna.page.locator('#people button:visible').count().then((count) => count === 6));
    assert.equal(await bob.page.locator('#people button:visible').count(), 1, 'Bob may close the list');
  });

  it('stops the microphone and camera of a guest, whose page shows it, and allows them again', async () => {
    const [hanna, bob] = [await joinAs('host', 'mute', 'Hanna'), await join('mute', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    await personButton(hanna, 'Bob', /^Stop microphone and camera of Bob/).click();
    await bob.reads('#permission', /A moderator has stopped your microphone/);
    await until('Bob sends nothing', async () => (await bob.traffic()).every(({ sends }) => !sends.audio && !sends.video));
    await until('nothing of Bob arrives', () => hanna.hearsNothing(1_000));
    await hanna.page.locator('.tile[data-peer-id][data-muted]:not([data-video])').waitFor();
    await bob.receives(1);
    assert.equal(await bob.page.locator('.toolbar [data-toggle=audio]').isDisabled(), true);

    await personButton(hanna, 'Bob', /^Allow microphone and camera of Bob/).click();
    await allSeeEachOther(hanna, bob);
    assert.equal(await bob.page.locator('#permission').innerText(), '');
  });

  it('locks the room against new people, and unlocks it', async () => {
    const [hanna, bob] = [await joinAs('host', 'lock', 'Hanna'), await join('lock', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    await hanna.page.click('#lock');
    await Promise.all([hanna, bob].map(({ page }) => page.locator('#locked').waitFor()));
    const carol = await browser.person();
    await carol.page.goto(`${server.origin}/?room=lock&name=Carol&autojoin=1`);
    await carol.reads('#start-error', /“lock” is locked/);
    await hanna.page.click('#lock');
    await bob.page.locator('#locked').waitFor({ state: 'hidden' });
    await carol.page.click('#join-button');
    await allSeeEachOther(hanna, bob, carol);
  });

  it('lets newcomers wait in the lobby, and admits all of them when they need not wait any more', async () => {
    const [hanna, bob] = [await joinAs('host', 'switch', 'Hanna'), await join('switch', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    await hanna.page.getByRole('button', { name: 'Let newcomers wait' }).click();
    await hanna.page.getByRole('button', { name: 'Admit all directly' }).waitFor();
    const carol = await browser.person();
    await carol.page.goto(`${server.origin}/?room=switch&name=Carol&autojoin=1`);
    await carol.page.locator('#waiting').waitFor();
    await hanna.page.getByRole('button', { name: 'Admit all directly' }).click();
    await allSeeEachOther(hanna, bob, carol);
  });

  it('removes a guest after a confirmation with the keyboard', async () => {
    const [hanna, bob] = [await joinAs('host', 'kick', 'Hanna'), await join('kick', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    const remove = personButton(hanna, 'Bob', 'Remove Bob');
    await remove.click();
    await hanna.page.keyboard.press('Escape');
    await allSeeEachOther(hanna, bob);
    await remove.click();
    await hanna.page.keyboard.press('Tab');
    await hanna.page.keyboard.press('Enter');
    await bob.reads('#start-error', /A moderator removed you from “kick”/);
    await hanna.sees();
  });

  it('ends the call for everyone', async () => {
    const [hanna, bob] = [await joinAs('host', 'end', 'Hanna'), await join('end', 'Bob')];
    await allSeeEachOther(hanna, bob);
    await hanna.page.click('#people-button');
    await hanna.page.click('#end');
    await hanna.page.click('#confirm-yes');
    await Promise.all([hanna, bob].map((person) => person.reads('#start-error', /The call in “end” has ended/)));
  });

  it('is received by a viewer that sends nothing and has no data channel', async () => {
    const [hanna, victor] = [await joinAs('host', 'view', 'Hanna'), await joinAs('viewer', 'view', 'Victor')];
    await victor.seesAndHears(1);
    await victor.reads('#permission', /You are here to watch/);
    const sections = await victor.page.evaluate(() => connectionsMade.flatMap(({ localDescription }) => localDescription.sdp.match(/^m=\w+ \d+|^a=(sendrecv|sendonly|recvonly|inactive)/gm)));
    assert.ok(sections.includes('a=recvonly') && !sections.some((line) => /a=send|m=application [1-9]/.test(line)), String(sections));
    assert.equal((await hanna.traffic()).length, 1);
  });
});
