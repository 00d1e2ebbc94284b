// The start of the call page: under a path prefix, and in browsers that cannot run it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { until } from './person.mjs';
import { startPrefixProxy } from './prefix-proxy.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

/** An empty module in the place of each module of the client that the pages import, but `room`. */
const OTHER_MODULES = (() => {
  const source = readFileSync(new URL('../../signalbox/build/page.rs', import.meta.url), 'utf8');
  const names = new Set([...source.matchAll(/"client\/([\w-]+)"/g)].map(([, name]) => name.replaceAll('-', '_')));
  names.delete('room');
  return [...names].map((name) => `export const $client_${name} = {};`).join(' ');
})();

for (const name of BROWSERS) {
  describe(`the start of the call page in ${name}`, () => {
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

    it('works under a path prefix', async () => {
      const { address, outside } = await startPrefixProxy(site, server.port, '/calls/now');
      const pages = [];
      for (const person of ['Alice', 'Bob']) pages.push(await browser.open(`${address}?room=prefix&name=${person}&autojoin=1`));
      for (const page of pages) await until('the call is connected', () => page.evaluate(() => document.querySelectorAll('.tile[data-peer-id][data-state=connected]').length === 1 || document.body.innerText));
      assert.deepEqual([await browser.closePages(), outside.filter((path) => path !== '/favicon.ico')], [[], []]);
    });

    it('needs four round trips to start: no file waits for another, and none is asked for twice', async () => {
      const { address, inside } = await startPrefixProxy(site, server.port, '/calls');
      const started = (page) => until('the page has started', () => page.evaluate(() => document.readyState === 'complete' && document.documentElement.hasAttribute('data-started')));
      const page = await browser.open(`${address}?room=fine`);
      await started(page);
      const files = inside.filter((path) => path !== '/?room=fine').map((path) => path.slice(1));
      // A round trip to connect, one for the document, which names every file, one for the further
      // connections, and one for the files: browsers make six connections over HTTP/1.1.
      const named = await (await fetch(address)).text().then((document) => document.match(/[\w-]+-[0-9a-f]{16}\.\w+/g));
      assert.deepEqual(files.filter((file) => !named.includes(file)), []);
      assert.deepEqual([...new Set(files)].sort(), [...files].sort());
      assert.ok(files.length >= 4 && files.length <= 6, files.join());
      // Later only the document is asked for.
      inside.length = 0;
      await started(await browser.open(`${address}?room=later`));
      assert.deepEqual(inside, ['/?room=later']);
      assert.deepEqual(await browser.closePages(), []);
    });

    const problem = (page) => page.evaluate(() => (document.querySelector('#start-problem').hidden ? '' : document.querySelector('#start-problem').innerText));

    for (const [what, replaced, says] of [
      ['the syntax of a script is unknown', { '/call.js': 'call it ??=? {' }, /could not start.*Chrome or Edge/s],
      ['a script of the client is missing', { '/client.js': null }, /could not start.*Chrome or Edge/s],
      ['a script needs what the browser lacks', { '/client.js': `export const $client_room = nowhere.Room; ${OTHER_MODULES}` }, /could not start/],
      ['there is no WebRTC', { '/client.js': `delete globalThis.RTCPeerConnection; export const $client_room = {}; ${OTHER_MODULES}` }, /WebRTC is missing or disabled/],
    ]) {
      it(`says why it cannot run if ${what}`, async () => {
        const { address } = await startPrefixProxy(site, server.port, '/old', replaced);
        const page = await browser.open(`${address}?room=old`);
        await until('the page says why', async () => says.test(await problem(page)) || (await problem(page)));
        assert.equal(await page.evaluate(() => document.querySelector('#start-page').hidden), true);
        await browser.closePages();
      });
    }

    it('says nothing of the kind if it runs', async () => {
      const page = await browser.open(`${server.origin}/?room=fine`);
      await until('the page has started', () => page.evaluate(() => document.readyState === 'complete' && document.documentElement.hasAttribute('data-started')));
      assert.equal(await problem(page), '');
      assert.deepEqual(await browser.closePages(), []);
    });

    it('shows a person to whom the browser cannot create a connection', async () => {
      const broken = 'const Real = RTCPeerConnection; globalThis.RTCPeerConnection = class { constructor() { throw new DOMException("no", "UnknownError"); } };';
      const { address } = await startPrefixProxy(site, server.port, '/broken', { '/start-check.js': broken });
      const bob = await browser.open(`${server.origin}/?room=broken&name=Bob&autojoin=1`);
      const alice = await browser.open(`${address}?room=broken&name=Alice&autojoin=1`);
      await until('Alice reads about Bob', () => alice.evaluate(() => /could not create a connection to Bob/.test(document.querySelector('#status').innerText) || document.body.innerText));
      assert.match(await alice.evaluate(() => document.querySelector('#people-button').innerText), /People \(2\)/);
      assert.equal(await bob.evaluate(() => document.querySelectorAll('#people-list li').length), 2);
      await browser.closePages();
    });
  });
}
