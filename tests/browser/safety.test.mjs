// The safety of the page: it runs only its own scripts, stores no token, and shows names as text.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite, startDeployment } from './servers.mjs';
import { bin } from '../edge/harness.mjs';

const SECRET = randomBytes(32).toString('base64');
const KEY = randomBytes(32).toString('hex');

/** Returns the addresses of all files that a browser can load. */
function servedPaths(site) {
  const folder = join(site.dir, 'served');
  execFileSync(join(bin, 'signalbox'), ['pages', folder]);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.endsWith('.gz'));
  return ['/', ...files.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length))];
}

/** Runs in the page: returns all data that it stores or shows. */
async function readPageData() {
  const storage = (area) => Object.entries(area).map(([key, value]) => `${key}=${value}`);
  const databases = (await indexedDB.databases()).map(({ name }) => name);
  const fields = [...document.querySelectorAll('input')].map(({ value }) => value);
  const attributes = [...document.querySelectorAll('*')].flatMap((element) => [...element.attributes].map(({ value }) => value));
  return {
    stored: [...storage(localStorage), ...storage(sessionStorage), ...databases, document.cookie, window.name, JSON.stringify(history.state)],
    shown: [location.href, document.title, document.documentElement.outerHTML, ...fields, ...attributes],
  };
}

for (const [where, start] of [
  [
    'one process',
    async (site) => {
      const settings = { AUTH_SECRET: SECRET, SIGNALBOX_API_KEYS: `backend:${KEY}` };
      return { origin: (await EmbeddedServer.start(site, settings)).origin, secrets: [SECRET, KEY] };
    },
  ],
  [
    'the edge',
    async (site) => {
      const { origin } = await startDeployment(site);
      const parts = ['auth_secret', 'api_keys', 'backend_key', 'redis_url_auth', 'redis_url_signal'].flatMap((name) => site.secret(name).split(/[:@/\s]+/));
      return { origin, secrets: parts.filter((part) => part.length >= 16) };
    },
  ],
]) {
  describe(`a page served by ${where}`, () => {
    const site = new TestSite();
    let browser;
    let origin;
    let secrets;

    before(async () => {
      browser = await SharedBrowser.launch();
      ({ origin, secrets } = await start(site));
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

    it('keeps its content security policy in a whole call, and stores or shows no token', async () => {
      const alice = await browser.joins(origin, 'safe', 'Alice');
      const bob = await browser.joins(origin, 'safe', 'Bob');
      await allSeeEachOther(alice, bob);
      await alice.page.click('#people-button');
      await bob.page.click('.toolbar [data-toggle=video]');
      await alice.page.locator('.tile[data-peer-id]:not([data-video])').waitFor();
      await bob.page.click('.toolbar [data-toggle=video]');
      await bob.reloads();
      await allSeeEachOther(alice, bob);
      for (const { page, tokens, addresses } of [alice, bob]) {
        assert.ok(tokens.length > 0, 'the page received a token');
        const { stored, shown } = await page.evaluate(readPageData);
        assert.ok(stored.some((text) => text.includes('signalbox.user=')), 'the stored data was read');
        for (const text of [...stored, ...shown, ...addresses]) {
          const position = [text.search(/eyJ[\w-]{10}/), ...tokens.map((token) => text.indexOf(token))].find((index) => index >= 0);
          assert.equal(position, undefined, `a token after ${text.slice(Math.max(0, position - 80), position)}`);
        }
        assert.deepEqual(stored.filter((text) => text.startsWith('signalbox.') && !/^signalbox\.(user|name|room|audio-off|video-off)=/.test(text)), []);
        const foreignAddresses = addresses.filter((address) => !/^(data|blob):/.test(address) && new URL(address).host !== new URL(origin).host);
        assert.deepEqual(foreignAddresses, [], 'the page sends no request to another host');
      }
    });

    it('has a policy that blocks and reports a script in the markup', async () => {
      const { page, problems } = await browser.joins(origin, 'policy', 'Alice');
      // Trusted Types refuse a text where markup or a script is expected.
      const refusals = await page.evaluate(() => {
        const writes = [
          () => Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = true' }),
          () => document.body.insertAdjacentHTML('beforeend', '<img src="x:" onerror="globalThis.ran = true">'),
        ];
        return writes.map((write) => {
          try {
            write();
            return 'accepted';
          } catch (error) {
            return error.name;
          }
        });
      });
      assert.deepEqual(refusals, ['TypeError', 'TypeError']);
      // A text node is not refused, but the script does not run.
      problems.length = 0;
      await page.evaluate(() => {
        const script = document.createElement('script');
        script.append('globalThis.ran = true');
        document.body.append(script);
      });
      await until('the script was stopped and reported', () => problems.length > 0);
      assert.equal(await page.evaluate(() => globalThis.ran), undefined);
      problems.length = 0;
    });

    it('has no inline script, style or handler', async () => {
      const { page } = await browser.person();
      const markup = await (await page.request.get(`${origin}/`)).text();
      for (const [tag] of markup.matchAll(/<script\b[^>]*>/g)) assert.match(tag, /\bsrc="[^"]+"/);
      assert.doesNotMatch(markup, /<script\b[^>]*>\s*[^<\s]/, 'an inline script');
      assert.doesNotMatch(markup, /<style\b|\sstyle=|\son\w+=|javascript:/i);
    });

    it('contains no secret, and neither does any other served file', async () => {
      const { page } = await browser.person();
      const read = await Promise.all(
        servedPaths(site).map(async (path) => {
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

    it('shows a name with markup as text everywhere', async () => {
      const name = '<img src=x onerror=globalThis.ran=1>';
      const alice = await browser.joins(origin, 'names', 'Alice');
      const mallory = await browser.joins(origin, 'names', name);
      await allSeeEachOther(alice, mallory);
      await alice.page.click('#people-button');
      assert.deepEqual(await alice.names(), [name]);
      await alice.reads('#people-list', /<img src=x onerror=globalThis\.ran=1>/);
      await mallory.reads('.tile.self .tile-name', /<img src=x onerror=globalThis\.ran=1> \(you\)/);
      for (const { page } of [alice, mallory]) {
        assert.equal(await page.locator('#stage img, #people img, #status img').count(), 0);
        assert.equal(await page.evaluate(() => globalThis.ran), undefined);
      }
    });

    it('shows a room name with markup as text, and refuses it', async () => {
      const person = await browser.person();
      person.expectedProblems = /status of 400/;
      const { page } = person;
      const answer = page.waitForResponse((response) => response.url().endsWith('/auth/token'));
      await page.goto(`${origin}/?${new URLSearchParams({ room: '<img src=x onerror=globalThis.ran=1>', name: 'Bob', autojoin: '1' })}`);
      assert.equal((await answer).status(), 400);
      await page.locator('#start-error').getByText('This room name cannot be used').waitFor();
      assert.equal(await page.locator('img:not(.brand img)').count(), 0);
      assert.equal(await page.evaluate(() => globalThis.ran), undefined);
    });
  });
}
