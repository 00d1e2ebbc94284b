// The first minute of a new user, as README.md describes it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite, repo } from './servers.mjs';

for (const name of BROWSERS) {
  describe(`the first minute in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let server;

    before(async () => {
      [browser, server] = await Promise.all([AnyBrowser.launch(name), EmbeddedServer.start(site)]);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

    const text = (page, selector) => page.evaluate((selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent), selector);
    const joins = async (page) => {
      await until('the page is ready', () => page.evaluate(() => document.querySelector('#room').value !== ''));
      await page.click('#join-button');
    };

    it('two tabs with the printed address meet in one call', async () => {
      const addresses = [...server.logText().matchAll(/http:\/\/\S+/g)].map(([address]) => address).filter((address) => new URL(address).port === `${server.port}`);
      assert.deepEqual(addresses, [`http://127.0.0.1:${server.port}/?room=first-call`], 'one address is printed');
      assert.ok(readFileSync(join(repo, 'README.md'), 'utf8').includes(addresses[0].replace(server.port, '8080')));
      const tabs = [await browser.open(addresses[0]), await browser.open(addresses[0])];
      for (const tab of tabs) await joins(tab);
      for (const tab of tabs) {
        await until('the other tab is connected', async () => (await tab.evaluate(() => document.querySelectorAll('.tile[data-peer-id][data-state=connected][data-video]').length)) === 1);
        assert.match((await text(tab, '#status'))[0], /One other person is here/);
      }
    });

    it('guests without names can be told apart, also after a reload', async () => {
      const tabs = [];
      for (let number = 0; number < 3; number++) {
        tabs.push(await browser.open(`${server.origin}/?room=unnamed`));
        await joins(tabs[number]);
      }
      const own = async (tab) => (await text(tab, '.tile.self .tile-name'))[0].trim().replace(' (you)', '');
      const names = [];
      for (const tab of tabs) names.push(await own(tab));
      assert.equal(new Set(names).size, 3, names.join());
      await tabs[0].reload();
      for (const [index, tab] of tabs.entries()) {
        const others = names.filter((_, other) => other !== index).sort();
        await until(`the tiles ${others}`, async () => {
          const shown = (await text(tab, '.tile[data-peer-id]:not([hidden]) .tile-name')).map((label) => label.trim()).sort();
          return String(shown) === String(others) || shown;
        });
      }
      assert.equal(await own(tabs[0]), names[0]);
    });

    it('people with the same name can be told apart by everyone, also after a reload', async () => {
      const people = [];
      for (const name of ['Ada', 'ada ', 'Bob']) {
        const tab = await browser.open(`${server.origin}/?${new URLSearchParams({ room: 'namesakes', name })}`);
        await joins(tab);
        people.push({ name, tab });
      }
      const own = async ({ tab }) => (await text(tab, '.tile.self .tile-name'))[0].trim().replace(' (you)', '');
      const others = async ({ tab }) => (await text(tab, '.tile[data-peer-id]:not([hidden]) .tile-name')).map((label) => label.trim()).sort();
      const shown = async () => {
        const names = await Promise.all(people.map(own));
        for (const [index, person] of people.entries()) {
          const expected = names.filter((_, other) => other !== index).sort();
          const seen = await others(person);
          if (String(seen) !== String(expected)) return `${person.name} sees ${seen} and not ${expected}`;
        }
        return new Set(names).size === people.length && names.every((name, index) => name.startsWith(people[index].name.trim()) && /( \(\d{4}\)$)/.test(name) === (index < 2)) || names;
      };
      await until('all see different names', shown);
      const names = await Promise.all(people.map(own));
      await people[0].tab.reload();
      await until('all see different names after a reload', shown);
      assert.deepEqual(await Promise.all(people.map(own)), names);
      const listed = (await text(people[2].tab, '.person-name')).map((label) => label.replace(' (you)', '')).sort();
      assert.deepEqual(listed, [...names].sort());
    });
  });
}
