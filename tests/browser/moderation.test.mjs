// What a host does to others, as both of them see it on their pages.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Embedded, Site } from './servers.mjs';

const KEY = randomBytes(32).toString('hex');

describe('a host', () => {
  const site = new Site();
  let crowd;
  let server;

  before(async () => {
    [crowd, server] = await Promise.all([Crowd.gather(), Embedded.start(site, { SIGNALBOX_API_KEYS: `backend:${KEY}` })]);
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

  const join = (room, name) => crowd.joins(server.origin, room, name);
  const joinAs = async (role, room, name) => {
    const person = await crowd.person();
    await person.hasRole(role, `backend:${KEY}`);
    await person.joins(server.origin, room, name);
    return person;
  };
  const inPeople = (person, name, button) => person.page.locator('#people-list li', { hasText: name }).getByRole('button', { name: button });

  it('has controls that a guest has not', async () => {
    const [hanna, bob] = [await joinAs('host', 'controls', 'Hanna'), await join('controls', 'Bob')];
    await allSeeAll(hanna, bob);
    for (const { page } of [hanna, bob]) await page.click('#people-button');
    await until('Hanna may lock, end, mute and remove', () => hanna.page.locator('#people button:visible').count().then((count) => count === 5));
    assert.equal(await bob.page.locator('#people button:visible').count(), 1, 'Bob may close the list');
  });

  it('mutes a guest, who sends nothing more and is told, until it is undone', async () => {
    const [hanna, bob] = [await joinAs('host', 'mute', 'Hanna'), await join('mute', 'Bob')];
    await allSeeAll(hanna, bob);
    await hanna.page.click('#people-button');
    await inPeople(hanna, 'Bob', /^Mute Bob/).click();
    await bob.reads('#standing', /A moderator has muted you/);
    await until('Bob sends nothing', async () => (await bob.traffic()).every(({ sends }) => !sends.audio && !sends.video));
    await until('nothing of Bob arrives', () => hanna.hearsNothing(1_000));
    await hanna.page.locator('.tile[data-peer-id][data-muted]:not([data-video])').waitFor();
    await bob.receives(1);
    assert.equal(await bob.page.locator('.toolbar [data-toggle=audio]').isDisabled(), true);

    await inPeople(hanna, 'Bob', /^Let Bob be heard/).click();
    await allSeeAll(hanna, bob);
    assert.equal(await bob.page.locator('#standing').innerText(), '');
  });

  it('locks the room against the next one, and opens it again', async () => {
    const [hanna, bob] = [await joinAs('host', 'lock', 'Hanna'), await join('lock', 'Bob')];
    await allSeeAll(hanna, bob);
    await hanna.page.click('#people-button');
    await hanna.page.click('#lock');
    await Promise.all([hanna, bob].map(({ page }) => page.locator('#locked').waitFor()));
    const carol = await crowd.person();
    await carol.page.goto(`${server.origin}/?room=lock&name=Carol&autojoin=1`);
    await carol.reads('#lobby-error', /“lock” is locked/);
    await hanna.page.click('#lock');
    await bob.page.locator('#locked').waitFor({ state: 'hidden' });
    await carol.page.click('#join-button');
    await allSeeAll(hanna, bob, carol);
  });

  it('removes a guest, after a question that can be answered with the keyboard', async () => {
    const [hanna, bob] = [await joinAs('host', 'kick', 'Hanna'), await join('kick', 'Bob')];
    await allSeeAll(hanna, bob);
    await hanna.page.click('#people-button');
    const remove = inPeople(hanna, 'Bob', 'Remove Bob');
    await remove.click();
    await hanna.page.keyboard.press('Escape');
    await allSeeAll(hanna, bob);
    await remove.click();
    await hanna.page.keyboard.press('Tab');
    await hanna.page.keyboard.press('Enter');
    await bob.reads('#lobby-error', /A moderator removed you from “kick”/);
    await hanna.sees();
  });

  it('ends the call for everyone', async () => {
    const [hanna, bob] = [await joinAs('host', 'end', 'Hanna'), await join('end', 'Bob')];
    await allSeeAll(hanna, bob);
    await hanna.page.click('#people-button');
    await hanna.page.click('#end');
    await hanna.page.click('#ask-yes');
    await Promise.all([hanna, bob].map((person) => person.reads('#lobby-error', /The call in “end” has ended/)));
  });

  it('is heard and seen by a viewer, who sends nothing and has no data channel', async () => {
    const [hanna, victor] = [await joinAs('host', 'view', 'Hanna'), await joinAs('viewer', 'view', 'Victor')];
    await victor.seesAndHears(1);
    await victor.reads('#standing', /You are here to watch/);
    const sections = await victor.page.evaluate(() => connectionsMade.flatMap(({ localDescription }) => localDescription.sdp.match(/^m=\w+ \d+|^a=(sendrecv|sendonly|recvonly|inactive)/gm)));
    assert.ok(sections.includes('a=recvonly') && !sections.some((line) => /a=send|m=application [1-9]/.test(line)), String(sections));
    assert.equal((await hanna.traffic()).length, 1);
  });
});
