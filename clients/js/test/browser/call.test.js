/** The call page and the ten lines of the README, in a real browser against the real server. `npm run test:browser`. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { binary, freePort, launch, person, seesOthers, startServer } from './server.js';

const tenLines = readFileSync(new URL('../../examples/ten-lines.js', import.meta.url), 'utf8');

describe('in a browser', { skip: !binary && !process.env.CI && 'the server is not built' }, () => {
  let base, port, server, browser, complaints;
  before(async () => {
    port = await freePort();
    base = `http://127.0.0.1:${port}`;
    server = await startServer(port);
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });
  beforeEach(() => (complaints = []));
  // Pages of an earlier test would go on coding pictures.
  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

  const joins = async (name, room, prepare = () => {}) => {
    const page = await person(browser, complaints);
    await prepare(page);
    await page.goto(`${base}/?room=${room}&name=${name}&autojoin=1`);
    return page;
  };

  test('two people who open the same link see each other, and one who leaves is gone from the other side', async () => {
    const alice = await joins('Alice', 'pair');
    const bob = await joins('Bob', 'pair');
    await Promise.all([seesOthers(alice, 1), seesOthers(bob, 1)]);
    await bob.click('#leave');
    await seesOthers(alice, 0);
    assert.deepEqual(complaints, []);
  });

  test('who mutes and switches the camera off is shown so, and can come back', async () => {
    const alice = await joins('Alice', 'toggles');
    const bob = await joins('Bob', 'toggles');
    await Promise.all([seesOthers(alice, 1), seesOthers(bob, 1)]);
    await bob.click('.toolbar [data-toggle=video]');
    await bob.click('.toolbar [data-toggle=audio]');
    await alice.waitForSelector('.tile[data-peer-id][data-muted]:not([data-video])');
    await bob.click('.toolbar [data-toggle=video]');
    await alice.waitForSelector('.tile[data-peer-id][data-video][data-muted]');
    assert.deepEqual(complaints, []);
  });

  test('two who switch their cameras on in the same moment are both seen: glare in a running call', async () => {
    const dark = (page) => page.addInitScript(() => ['audio', 'video'].forEach((kind) => sessionStorage.setItem(`signalbox.${kind}-off`, '1')));
    const pages = [await joins('Alice', 'glare', dark), await joins('Bob', 'glare', dark)];
    await Promise.all(pages.map((page) => page.waitForSelector('.tile[data-peer-id][data-state=connected]')));
    await Promise.all(pages.map((page) => page.click('.toolbar [data-toggle=video]')));
    await Promise.all(pages.map((page) => seesOthers(page, 1)));
    assert.deepEqual(complaints, []);
  });

  test('a reload comes back to the same room, and the others see one person and not two', async () => {
    const alice = await joins('Alice', 'reload');
    const bob = await joins('Bob', 'reload');
    await seesOthers(alice, 1);
    const before = await alice.getAttribute('video[data-peer-id]', 'data-peer-id');
    await bob.reload();
    await alice.waitForSelector(`video[data-peer-id]:not([data-peer-id="${before}"])`);
    await Promise.all([seesOthers(alice, 1), seesOthers(bob, 1)]);
    assert.deepEqual(complaints, []);
  });

  test('without a camera one still sees the others', async () => {
    const alice = await joins('Alice', 'blocked');
    const bob = await joins('Bob', 'blocked', (page) =>
      page.addInitScript(() => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('blocked', 'NotAllowedError'));
      }),
    );
    await seesOthers(bob, 1);
    await alice.waitForSelector('.tile[data-peer-id][data-state=connected]:not([data-video])');
    assert.match(await bob.textContent('#call-problem'), /blocked for this page/);
  });

  test('when the server is killed and comes back, so does the call', async () => {
    const alice = await joins('Alice', 'killed');
    const bob = await joins('Bob', 'killed');
    await Promise.all([seesOthers(alice, 1), seesOthers(bob, 1)]);
    await server.stop('SIGKILL');
    await alice.waitForSelector('body[data-state=waiting]');
    server = await startServer(port);
    await Promise.all([alice, bob].map((page) => page.waitForSelector('body[data-state=open]')));
    await Promise.all([seesOthers(alice, 1), seesOthers(bob, 1)]);
  });

  test('ten lines make a call', async () => {
    const pages = [];
    for (let n = 0; n < 2; n += 1) {
      const page = await person(browser, complaints);
      await page.route('**/ten-lines.js', (route) => route.fulfill({ contentType: 'text/javascript', body: tenLines }));
      const body = '<!doctype html><script type="module" src="/ten-lines.js"></script>';
      await page.route('**/ten-lines', (route) => route.fulfill({ contentType: 'text/html', body }));
      await page.goto(`${base}/ten-lines`);
      pages.push(page);
    }
    await Promise.all(pages.map((page) => seesOthers(page, 1, 'video')));
    assert.equal(tenLines.trim().split('\n').length, 10);
    assert.deepEqual(complaints, []);
  });
});
