/** The call page and the example of the README with a real browser and server. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { binary, freePort, launchBrowser, openPage, waitForVideos, startServer } from './harness.js';

const tenLines = readFileSync(new URL('../../examples/ten-lines.js', import.meta.url), 'utf8');

describe('in a browser', { skip: !binary && !process.env.CI && 'the server is not built' }, () => {
  let base, port, server, browser, complaints;
  before(async () => {
    port = await freePort();
    base = `http://127.0.0.1:${port}`;
    server = await startServer(port);
    browser = await launchBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });
  beforeEach(() => (complaints = []));
  // Open pages would continue to encode video.
  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

  const openCall = async (name, room, prepare = () => {}) => {
    const page = await openPage(browser, complaints);
    await prepare(page);
    await page.goto(`${base}/?room=${room}&name=${name}&autojoin=1`);
    return page;
  };

  test('two people with the same link see each other, and a person who leaves disappears', async () => {
    const alice = await openCall('Alice', 'pair');
    const bob = await openCall('Bob', 'pair');
    await Promise.all([waitForVideos(alice, 1), waitForVideos(bob, 1)]);
    await bob.click('#leave');
    await waitForVideos(alice, 0);
    assert.deepEqual(complaints, []);
  });

  test('a person without sound and camera is shown as muted, and can switch the camera on again', async () => {
    const alice = await openCall('Alice', 'toggles');
    const bob = await openCall('Bob', 'toggles');
    await Promise.all([waitForVideos(alice, 1), waitForVideos(bob, 1)]);
    await bob.click('.toolbar [data-toggle=video]');
    await bob.click('.toolbar [data-toggle=audio]');
    await alice.waitForSelector('.tile[data-peer-id][data-muted]:not([data-video])');
    await bob.click('.toolbar [data-toggle=video]');
    await alice.waitForSelector('.tile[data-peer-id][data-video][data-muted]');
    assert.deepEqual(complaints, []);
  });

  test('two cameras that are switched on at the same moment are both visible, despite glare', async () => {
    const withoutMedia = (page) => page.addInitScript(() => ['audio', 'video'].forEach((kind) => sessionStorage.setItem(`signalbox.${kind}-off`, '1')));
    const pages = [await openCall('Alice', 'glare', withoutMedia), await openCall('Bob', 'glare', withoutMedia)];
    await Promise.all(pages.map((page) => page.waitForSelector('.tile[data-peer-id][data-state=connected]')));
    await Promise.all(pages.map((page) => page.click('.toolbar [data-toggle=video]')));
    await Promise.all(pages.map((page) => waitForVideos(page, 1)));
    assert.deepEqual(complaints, []);
  });

  test('a reloaded page returns to the same room, and the other page shows one person', async () => {
    const alice = await openCall('Alice', 'reload');
    const bob = await openCall('Bob', 'reload');
    await waitForVideos(alice, 1);
    const before = await alice.getAttribute('video[data-peer-id]', 'data-peer-id');
    await bob.reload();
    await alice.waitForSelector(`video[data-peer-id]:not([data-peer-id="${before}"])`);
    await Promise.all([waitForVideos(alice, 1), waitForVideos(bob, 1)]);
    assert.deepEqual(complaints, []);
  });

  test('a person without a camera still sees the others', async () => {
    const alice = await openCall('Alice', 'blocked');
    const bob = await openCall('Bob', 'blocked', (page) =>
      page.addInitScript(() => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('blocked', 'NotAllowedError'));
      }),
    );
    await waitForVideos(bob, 1);
    await alice.waitForSelector('.tile[data-peer-id][data-state=connected]:not([data-video])');
    assert.match(await bob.textContent('#call-problem'), /blocked for this page/);
  });

  test('the call continues after the server is killed and started again', async () => {
    const alice = await openCall('Alice', 'killed');
    const bob = await openCall('Bob', 'killed');
    await Promise.all([waitForVideos(alice, 1), waitForVideos(bob, 1)]);
    await server.stop('SIGKILL');
    await alice.waitForSelector('body[data-state=waiting]');
    server = await startServer(port);
    await Promise.all([alice, bob].map((page) => page.waitForSelector('body[data-state=open]')));
    await Promise.all([waitForVideos(alice, 1), waitForVideos(bob, 1)]);
  });

  test('ten lines make a call', async () => {
    const pages = [];
    for (let n = 0; n < 2; n += 1) {
      const page = await openPage(browser, complaints);
      await page.route('**/ten-lines.js', (route) => route.fulfill({ contentType: 'text/javascript', body: tenLines }));
      const body = '<!doctype html><script type="module" src="/ten-lines.js"></script>';
      await page.route('**/ten-lines', (route) => route.fulfill({ contentType: 'text/html', body }));
      await page.goto(`${base}/ten-lines`);
      pages.push(page);
    }
    await Promise.all(pages.map((page) => waitForVideos(page, 1, 'video')));
    assert.equal(tenLines.trim().split('\n').length, 10);
    assert.deepEqual(complaints, []);
  });
});
