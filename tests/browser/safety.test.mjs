// What a page must not do or hold: no script but its own files, no token that outlives the call, no markup out of a name.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Embedded, Site, deployment, repo } from './servers.mjs';

const SECRET = randomBytes(32).toString('base64');
const KEY = randomBytes(32).toString('hex');

/** Every file that a browser can get, by its address. */
function served() {
  const files = (folder) => readdirSync(join(repo, folder), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const under = (folder, prefix) => files(folder).map((entry) => `${prefix}${join(entry.path, entry.name).slice(join(repo, folder).length + 1)}`);
  return ['/', ...under('web/call', '/'), ...under('clients/js/src', '/client/')];
}

/** Runs in the page: everything that it keeps or shows. */
async function holdings() {
  const storage = (area) => Object.entries(area).map(([key, value]) => `${key}=${value}`);
  const databases = (await indexedDB.databases()).map(({ name }) => name);
  const fields = [...document.querySelectorAll('input')].map(({ value }) => value);
  const attributes = [...document.querySelectorAll('*')].flatMap((element) => [...element.attributes].map(({ value }) => value));
  return {
    kept: [...storage(localStorage), ...storage(sessionStorage), ...databases, document.cookie, window.name, JSON.stringify(history.state)],
    shown: [location.href, document.title, document.documentElement.outerHTML, ...fields, ...attributes],
  };
}

for (const [where, start] of [
  [
    'one process',
    async (site) => {
      const settings = { AUTH_SECRET: SECRET, SIGNALBOX_API_KEYS: `backend:${KEY}` };
      return { origin: (await Embedded.start(site, settings)).origin, secrets: [SECRET, KEY] };
    },
  ],
  [
    'the edge',
    async (site) => {
      const { origin } = await deployment(site);
      const parts = ['auth_secret', 'api_keys', 'backend_key', 'redis_url_auth', 'redis_url_signal'].flatMap((name) => site.secret(name).split(/[:@/\s]+/));
      return { origin, secrets: parts.filter((part) => part.length >= 16) };
    },
  ],
]) {
  describe(`a page served by ${where}`, () => {
    const site = new Site();
    let crowd;
    let origin;
    let secrets;

    before(async () => {
      crowd = await Crowd.gather();
      ({ origin, secrets } = await start(site));
    });
    after(async () => {
      await crowd?.close();
      await site.close();
    });
    afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

    it('breaks no rule of its own policy in a whole call, and keeps or shows no token', async () => {
      const alice = await crowd.joins(origin, 'safe', 'Alice');
      const bob = await crowd.joins(origin, 'safe', 'Bob');
      await allSeeAll(alice, bob);
      await alice.page.click('#people-button');
      await bob.page.click('.toolbar [data-toggle=video]');
      await alice.page.locator('.tile[data-peer-id]:not([data-video])').waitFor();
      await bob.page.click('.toolbar [data-toggle=video]');
      await bob.reloads();
      await allSeeAll(alice, bob);
      for (const { page, tokens, addresses } of [alice, bob]) {
        assert.ok(tokens.length > 0, 'there was a token to look for');
        const { kept, shown } = await page.evaluate(holdings);
        assert.ok(kept.some((text) => text.includes('signalbox.user=')), 'what is kept was looked at');
        for (const text of [...kept, ...shown, ...addresses]) {
          const at = [text.search(/eyJ[\w-]{10}/), ...tokens.map((token) => text.indexOf(token))].find((place) => place >= 0);
          assert.equal(at, undefined, `a token after ${text.slice(Math.max(0, at - 80), at)}`);
        }
        assert.deepEqual(kept.filter((text) => text.startsWith('signalbox.') && !/^signalbox\.(user|name|room|audio-off|video-off)=/.test(text)), []);
        const strangers = addresses.filter((address) => !/^(data|blob):/.test(address) && new URL(address).host !== new URL(origin).host);
        assert.deepEqual(strangers, [], 'nothing is asked of anybody else');
      }
    });

    it('carries a policy that stops a script in the markup, and complains of it', async () => {
      const { page, complaints } = await crowd.joins(origin, 'policy', 'Alice');
      await page.evaluate(() => {
        document.body.append(Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = true' }));
        document.body.insertAdjacentHTML('beforeend', '<img src="x:" onerror="globalThis.ran = true">');
      });
      await until('both were stopped', () => complaints.filter((text) => /policy violated: script-src/.test(text)).length >= 2 || complaints);
      assert.equal(await page.evaluate(() => globalThis.ran), undefined);
      complaints.length = 0;
    });

    it('has no script, style or handler in its markup', async () => {
      const { page } = await crowd.person();
      const markup = await (await page.request.get(`${origin}/`)).text();
      for (const [tag] of markup.matchAll(/<script\b[^>]*>/g)) assert.match(tag, /\bsrc="[^"]+"/);
      assert.doesNotMatch(markup, /<script\b[^>]*>\s*[^<\s]/, 'a script with a text');
      assert.doesNotMatch(markup, /<style\b|\sstyle=|\son\w+=|javascript:/i);
    });

    it('and every file beside it hold no secret', async () => {
      const { page } = await crowd.person();
      const read = await Promise.all(
        served().map(async (path) => {
          const answer = await page.request.get(`${origin}${path}`);
          return { path, status: answer.status(), text: `${JSON.stringify(answer.headers())}\n${await answer.text()}` };
        }),
      );
      assert.deepEqual(read.filter(({ status }) => status !== 200).map(({ path, status }) => `${status} ${path}`), []);
      assert.ok(read.length > 20 && secrets.length >= 2);
      for (const { path, text } of read) {
        for (const secret of secrets) assert.ok(!text.includes(secret), `${path} holds a secret`);
        assert.doesNotMatch(text, /eyJ[\w-]{10}|PRIVATE KEY|redis:\/\/\w/, path);
      }
    });

    it('shows a name that is markup as text, wherever it shows it', async () => {
      const name = '<img src=x onerror=globalThis.ran=1>';
      const alice = await crowd.joins(origin, 'names', 'Alice');
      const mallory = await crowd.joins(origin, 'names', name);
      await allSeeAll(alice, mallory);
      await alice.page.click('#people-button');
      assert.deepEqual(await alice.names(), [name]);
      await alice.reads('#people-list', /<img src=x onerror=globalThis\.ran=1>/);
      await mallory.reads('.tile.self .tile-name', /<img src=x onerror=globalThis\.ran=1> \(you\)/);
      for (const { page } of [alice, mallory]) {
        assert.equal(await page.locator('#stage img, #people img, #status img').count(), 0);
        assert.equal(await page.evaluate(() => globalThis.ran), undefined);
      }
    });

    it('shows a room that is markup as text, and refuses it', async () => {
      const person = await crowd.person();
      person.expected = /status of 400/;
      const { page } = person;
      const answer = page.waitForResponse((response) => response.url().endsWith('/auth/token'));
      await page.goto(`${origin}/?${new URLSearchParams({ room: '<img src=x onerror=globalThis.ran=1>', name: 'Bob', autojoin: '1' })}`);
      assert.equal((await answer).status(), 400);
      await page.locator('#lobby-error').getByText('This room name cannot be used').waitFor();
      assert.equal(await page.locator('img:not(.brand img)').count(), 0);
      assert.equal(await page.evaluate(() => globalThis.ran), undefined);
    });
  });
}
