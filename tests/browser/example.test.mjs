// The examples of the client and the code in the README files, without a change.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS, playsVideos } from './any-browser.mjs';
import { readExample, startExampleSite, startOtherSite } from './example-site.mjs';
import { Gate } from './gate.mjs';
import { SharedBrowser, until } from './person.mjs';
import { EmbeddedServer, TestSite, repo } from './servers.mjs';

const tenLines = readExample('ten-lines.js');

/** Returns the code blocks of a document in one language. */
function codeBlocks(file, language) {
  const fences = readFileSync(join(repo, file), 'utf8').matchAll(/^```(\w+)\n(.*?)^```$/gms);
  return [...fences].filter(([, name]) => name === language).map(([, , code]) => code);
}

describe('the example in ten lines', () => {
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

  it('has ten lines', () => assert.equal(tenLines.trimEnd().split('\n').length, 10));

  for (const file of ['README.md', 'clients/js/README.md']) {
    it(`is in ${file} byte for byte`, () => {
      assert.deepEqual(codeBlocks(file, 'js').filter((code) => code.includes("from '/client/")), [tenLines]);
    });
  }

  it('makes a call between two pages, under the policy of the server', async () => {
    // Any document of the server works: it gives an empty body, the origin and the policy. Trusted Types
    // refuse a script element with an address that is set here, but no import.
    const open = async () => {
      const person = await browser.person();
      await person.page.route('**/ten-lines.js', (route) => route.fulfill({ contentType: 'text/javascript', body: tenLines }));
      await person.page.goto(`${server.origin}/client/index.js`);
      await person.page.evaluate(() => void import('/ten-lines.js'));
      return person;
    };
    const [ada, grace] = [await open(), await open()];
    await Promise.all([playsVideos(ada.page, 1), playsVideos(grace.page, 1)]);
    await Promise.all([ada.receives(1), grace.receives(1)]);

    await grace.page.goto('about:blank');
    await until('the video of Grace is removed', async () => (await ada.page.locator('video').count()) === 0);
    assert.deepEqual(await browser.closePages(), []);
  });
});

for (const name of BROWSERS) {
  describe(`the examples in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let origin;
    let otherOrigin;
    /** The content of the page on another origin. */
    let markup;
    let atServer;

    before(async () => {
      otherOrigin = await startOtherSite(site, () => markup);
      browser = await AnyBrowser.launch(name);
      const server = await EmbeddedServer.start(site, { SIGNALBOX__SERVER__ALLOWED_ORIGINS: otherOrigin });
      origin = await startExampleSite(site, server.port);
      atServer = (code) => code.replaceAll('https://your.host', server.origin);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    // Each call has a server of its own, because the room of the example is always the same.
    it('connect two pages that open at the same moment or one after the other, each time', async () => {
      for (const atOnce of [true, true, false, true, false]) {
        const call = `${await startExampleSite(site, (await EmbeddedServer.start(site)).port)}/pages/own-connection.js`;
        const pages = atOnce ? await Promise.all([browser.open(call), browser.open(call)]) : [await browser.open(call), await browser.open(call)];
        await Promise.all(pages.map((page) => playsVideos(page, 1)));
        assert.deepEqual(await browser.closePages(), []);
      }
    });

    it('connect three pages with connections of their own, and remove the video of a page that closes', async () => {
      const pages = [];
      for (let number = 0; number < 3; number++) pages.push(await browser.open(`${origin}/pages/own-connection.js`));
      await Promise.all(pages.map((page) => playsVideos(page, 2)));
      // Firefox closes the socket before `pagehide`, so there only the close code says that the page
      // has gone, and the peer leaves a few seconds later.
      await pages[1].goto('about:blank');
      await Promise.all([playsVideos(pages[0], 1), playsVideos(pages[2], 1)]);
      assert.deepEqual(await browser.closePages(), []);
    });

    it('keep connections of their own over a restart of the server, and connect a new page after it', async () => {
      const server = await EmbeddedServer.start(site, { AUTH_SECRET: randomBytes(48).toString('base64') });
      const call = `${await startExampleSite(site, server.port)}/pages/own-connection.js`;
      const pages = [await browser.open(call), await browser.open(call)];
      await Promise.all(pages.map((page) => playsVideos(page, 1)));
      await server.kill();
      await server.start();
      pages.push(await browser.open(call));
      await Promise.all(pages.map((page) => playsVideos(page, 2)));
      // Firefox reports each connection that is refused during the restart as an error of the page.
      assert.deepEqual((await browser.closePages()).filter((problem) => !problem.includes('establish a connection')), []);
    });

    it('keep connections of their own if one page returns seconds later than the other after a restart of the server', async () => {
      const server = await EmbeddedServer.start(site, { AUTH_SECRET: randomBytes(48).toString('base64') });
      const { port } = new URL(await startExampleSite(site, server.port));
      const gates = [await Gate.start(site, port), await Gate.start(site, port)];
      const pages = [];
      for (const gate of gates) pages.push(await browser.open(`${gate.origin}/pages/own-connection.js`));
      await Promise.all(pages.map((page) => playsVideos(page, 1)));
      for (const page of pages) await page.evaluate(() => (globalThis.firstVideo = document.querySelector('video')));
      gates[1].cut();
      await server.kill();
      gates[0].log.length = 0;
      await server.start();
      await until('the first page is back', () => gates[0].log.some((line) => line.includes('/ws/signal')));
      await new Promise((resolve) => setTimeout(resolve, 8_000));
      const others = gates[1].log.length;
      gates[1].restore();
      await until('the second page is back', () => gates[1].log.slice(others).some((line) => line.includes('/ws/signal')));
      pages.push(await browser.open(`${gates[0].origin}/pages/own-connection.js`));
      await Promise.all(pages.map((page) => playsVideos(page, 2)));
      for (const page of pages.slice(0, 2)) assert.ok(await page.evaluate(() => firstVideo.isConnected), 'it is the same connection');
      // Firefox reports each refused connection as an error of the page.
      await browser.closePages();
    });

    it('exchange data without media', async () => {
      const pages = [await browser.open(`${origin}/pages/data-only.js`), await browser.open(`${origin}/pages/data-only.js`)];
      for (const page of pages) await until('the other page has said hello', async () => (await page.evaluate(() => document.body.innerText)).includes('Ada says hello.'));
      assert.deepEqual(await browser.closePages(), []);
    });

    it('make a call from another origin with the code of the README', async () => {
      const [code, ...more] = codeBlocks('README.md', 'html');
      assert.deepEqual(more, []);
      markup = atServer(code);
      const pages = [await browser.open(`${otherOrigin}/`), await browser.open(`${otherOrigin}/`)];
      await Promise.all(pages.map((page) => playsVideos(page, 1)));
      assert.deepEqual(await browser.closePages(), []);
    });

    it('send messages with the code of the client README', async () => {
      const [code, ...more] = codeBlocks('clients/js/README.md', 'js').filter((block) => block.includes("'hello to all'"));
      assert.deepEqual(more, []);
      markup = `<script type="module">${atServer(code).replace('console.log(', '(globalThis.seen ??= []).push(')}</script>`;
      const first = await browser.open(`${otherOrigin}/`);
      await until('the first page has joined', async () => (await first.evaluate(() => document.readyState)) === 'complete');
      await browser.open(`${otherOrigin}/`);
      await until('both messages arrive', async () => (await first.evaluate(() => String(globalThis.seen))) === 'Ada,hello to all,Ada,hello to you');
      assert.deepEqual(await browser.closePages(), []);
    });
  });
}
