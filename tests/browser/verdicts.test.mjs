// A page on another origin, whose answers a proxy makes unreadable: it joins again, or says why not.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { Gate, startPages } from './gate.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

/** How the answer of `/ws/validate` is made unreadable → the codes of the error of a refused token. */
const UNREADABLE = {
  'no answer': /^(unreadable|unreachable)$/,
  'no CORS headers': /^unreadable$/,
  404: /^unreadable$/,
  '200 with HTML': /^unreadable$/,
  502: /^(unreachable|unreadable)$/,
};

/** Runs in the page: starts a client and records what happens to it. */
async function startClient([url, room, token]) {
  const { SignalingClient, guestToken } = await import('/client/index.js');
  const state = { joined: 0, failed: null };
  const client = new SignalingClient({ url, getToken: () => token ?? guestToken({ url, room }) });
  Object.assign(globalThis, { client, seen: state });
  client.on('joined', () => (state.joined += 1));
  client.connect().catch(({ code, message }) => (state.failed = { code, message }));
}

const seen = (page) => page.evaluate(() => globalThis.seen);

for (const name of BROWSERS) {
  describe(`unreadable verdicts in ${name}`, () => {
    const site = new TestSite();
    const gates = [];
    let browser;
    let server;
    let pages;

    before(async () => {
      pages = await startPages(site);
      const settings = { SIGNALBOX__SERVER__ALLOWED_ORIGINS: pages, SIGNALBOX__TIMING__RESUME_WINDOW: '1s', SIGNALBOX__TIMING__LEASE: '500ms' };
      [server, browser] = await Promise.all([EmbeddedServer.start(site, settings), AnyBrowser.launch(name)]);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });

    /** A page behind a gate of its own, because Firefox delays connections to an address that has refused some. */
    async function open(verdicts, ...options) {
      const gate = await Gate.start(site, server.port);
      gates.push(gate);
      gate.verdicts = verdicts;
      const page = await browser.open(`${pages}/`);
      await page.evaluate(startClient, [gate.origin, ...options]);
      return { page, gate };
    }

    /** Ends the connection for longer than the resume window, so that the handle is dead. */
    async function loseHandle({ page, gate }) {
      gate.cut();
      await until('the connection is lost', () => page.evaluate(() => ['waiting', 'connecting'].includes(globalThis.client.state)));
      await new Promise((resolve) => setTimeout(resolve, 2_500));
    }

    // At once, because a client waits for a long time before it gives up. Firefox opens one socket to a
    // host at a time, and a socket that it delays holds up the others.
    describe('each behind a proxy of its own', { concurrency: name === 'chromium' }, () => {
      it('a refused token ends with its reason, which an allowed origin may read', async () => {
        const { page } = await open('pass', 'token', 'not.a.token');
        await until('connect() rejects', async () => (await seen(page)).failed !== null, 40_000);
        assert.equal((await seen(page)).failed.code, 'token_malformed');
      });

      for (const verdicts of ['pass', ...Object.keys(UNREADABLE)]) {
        it(`a dead handle is replaced by a token (${verdicts})`, async () => {
          const { page, gate } = await open('pass', `handle-${verdicts.replaceAll(' ', '-')}`);
          await until('the page joins', async () => (await seen(page)).joined === 1);
          await loseHandle({ page, gate });
          gate.verdicts = verdicts;
          gate.restore();
          await until('the page joins again', async () => (await seen(page)).joined === 2 || (await seen(page)), 15_000);
        });
      }

      for (const [verdicts, code] of Object.entries(UNREADABLE)) {
        it(`a refused token ends with an error that names the likely cause (${verdicts})`, async () => {
          const { page } = await open(verdicts, 'token', 'not.a.token');
          await until('connect() rejects', async () => (await seen(page)).failed !== null, 40_000);
          const { failed } = await seen(page);
          assert.match(failed.code, code);
          if (failed.code === 'unreadable') assert.match(failed.message, /server\.allowed_origins|proxies/);
        });
      }
    });

    it('no token and no handle is in an address', () => {
      const log = gates.flatMap((gate) => gate.log);
      assert.ok(log.some((line) => line === 'GET /ws/validate'), log.join('\n'));
      for (const line of log) assert.match(line, /^(GET|POST|OPTIONS) \/(auth\/token|ws\/validate|ws\/signal(\?since=\d+)?)$/);
    });
  });

  describe(`an origin that is not allowed in ${name}`, () => {
    const site = new TestSite();
    let browser;
    after(async () => {
      await browser?.close();
      await site.close();
    });

    it('ends with an error that names the origin and the setting', async () => {
      const pages = await startPages(site);
      const server = await EmbeddedServer.start(site);
      browser = await AnyBrowser.launch(name);
      for (const token of [undefined, 'not.a.token']) {
        const page = await browser.open(`${pages}/`);
        await page.evaluate(startClient, [server.origin, 'r', token]);
        await until('connect() rejects', async () => (await seen(page)).failed !== null, 40_000);
        const { failed } = await seen(page);
        assert.equal(failed.code, 'unreadable');
        assert.ok(failed.message.includes(pages) && failed.message.includes('server.allowed_origins'), failed.message);
      }
    });
  });
}
