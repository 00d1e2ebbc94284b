// The element <signalbox-call>, on a page of another origin under a strict policy with Trusted Types.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite, repo } from './servers.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const [example, ...more] = [...readFileSync(join(repo, 'clients/js/README.md'), 'utf8').matchAll(/^```html\n(.*?)^```$/gms)].map(([, code]) => code);

/** Runs in the page: makes an element with these attributes, which notes its events. */
function addCall([id, attributes, place = 'body']) {
  const call = document.createElement('signalbox-call');
  for (const [name, value] of Object.entries({ id, ...attributes })) call.setAttribute(name, value);
  call.events = [];
  for (const type of ['joined', 'peer', 'left', 'problem']) call.addEventListener(type, ({ detail }) => call.events.push(detail.error ? `${type} ${detail.error.code}` : type));
  document.querySelector(place).append(call);
}

/** Runs in the page: what an element shows. */
function readCall(id) {
  const call = document.getElementById(id);
  const shown = (selector) => [...call.shadowRoot.querySelectorAll(selector)].filter((element) => element.checkVisibility?.() ?? element.getClientRects().length > 0);
  return {
    names: shown('[part~=name]').map(({ textContent }) => textContent),
    playing: shown('video').filter(({ videoWidth, currentTime }) => videoWidth > 0 && currentTime > 0).length,
    buttons: shown('button').map((button) => [button.textContent, button.getAttribute('aria-pressed'), button.disabled].filter((one) => one !== null && one !== false).join()),
    status: call.shadowRoot.querySelector('[role=status]').textContent,
    events: call.events,
  };
}

describe('the README', () => it('has one example with the element, in five lines', () => assert.deepEqual([example.trim().split('\n').length, more], [5, []])));

for (const name of BROWSERS) {
  describe(`<signalbox-call> in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let server;
    let origin;
    let markup;
    /** The rooms for which the backend was asked. */
    let asked = [];

    before(async () => {
      const pages = createServer(async ({ url, method }, response) => {
        const { pathname, searchParams } = new URL(url, origin);
        if (pathname === '/') {
          const policy = `default-src 'none'; img-src 'self'; script-src ${server.origin}; connect-src 'self' ${server.origin} ${server.origin.replace('http', 'ws')}; require-trusted-types-for 'script'; trusted-types 'none'`;
          return response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Security-Policy': policy }).end(markup);
        }
        if (pathname !== '/token' || method !== 'POST') return response.writeHead(404).end();
        asked.push(searchParams.get('room'));
        const isAllowed = searchParams.get('room') !== 'secret';
        const body = JSON.stringify({ room: searchParams.get('room'), user: 'of-the-backend' });
        const answer = isAllowed ? await fetch(`${server.origin}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).then((answer) => answer.json()) : { code: 'room_not_allowed', detail: 'You may not enter this room.' };
        return response.writeHead(isAllowed ? 200 : 403, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
      });
      const port = await new Promise((resolve) => pages.listen(0, '127.0.0.1', () => resolve(pages.address().port)));
      site.onClose(() => {
        pages.closeAllConnections();
        pages.close();
      });
      origin = `http://localhost:${port}`;
      [browser, server] = await Promise.all([AnyBrowser.launch(name), EmbeddedServer.start(site, { SIGNALBOX__SERVER__ALLOWED_ORIGINS: origin })]);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => {
      asked = [];
      assert.deepEqual(await browser.closePages(), [], 'no page reports an error');
    });

    /** Opens a page with only the module. */
    async function open() {
      markup = `<!doctype html><html lang="en"><title>A page</title><main><h1>Calls</h1><p></p></main><script type="module" src="${server.origin}/client/element.js"></script></html>`;
      const page = await browser.open(`${origin}/`);
      await until('the element is defined', () => page.evaluate(() => customElements.get('signalbox-call') !== undefined));
      await page.evaluate(() => {
        globalThis.violations = [];
        document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => violations.push(effectiveDirective));
      });
      return page;
    }

    const add = async (page, id, attributes, place) => page.evaluate(addCall, [id, { url: server.origin, ...attributes }, place ?? 'main']);
    const read = (page, id) => page.evaluate(readCall, id);
    const shows = (page, id, expected) =>
      until(`${id} shows ${JSON.stringify(expected)}`, async () => {
        const now = await read(page, id);
        return Object.entries(expected).every(([what, value]) => JSON.stringify(now[what]) === JSON.stringify(value)) || now;
      });
    const press = (page, id, part) => page.evaluate(([id, part]) => document.getElementById(id).shadowRoot.querySelector(`button[part~=${part}]`).click(), [id, part]);

    it('is a call with the code of the README, after a click', async () => {
      markup = example.replaceAll('https://your.host', server.origin);
      const [ada, grace] = [await browser.open(`${origin}/`), await browser.open(`${origin}/`)];
      for (const page of [ada, grace]) await page.evaluate(() => customElements.whenDefined('signalbox-call').then(() => Object.assign(document.querySelector('signalbox-call'), { id: 'call' })));
      await grace.evaluate(() => document.getElementById('call').setAttribute('name', 'Grace'));
      for (const page of [ada, grace]) {
        await shows(page, 'call', { buttons: ['Join'], names: [] });
        await press(page, 'call', 'join');
      }
      await shows(ada, 'call', { names: ['Ada (you)', 'Grace'], playing: 2, buttons: ['Microphone,true', 'Camera,true', 'Leave'], status: '' });
      await shows(grace, 'call', { names: ['Grace (you)', 'Ada'], playing: 2 });
      await press(grace, 'call', 'leave');
      await shows(grace, 'call', { names: [], buttons: ['Join'], status: '' });
      await shows(ada, 'call', { names: ['Ada (you)'] });
      assert.deepEqual([(await ada.evaluate(() => getComputedStyle(document.getElementById('call').shadowRoot.querySelector('[part~=tiles]')).display))], ['grid'], 'the style is there');
    });

    it('joins by itself, tells its events, and shows what the others switch off and share', async () => {
      const [ada, grace] = [await open(), await open()];
      await add(ada, 'call', { room: 'events', name: 'Ada', autojoin: '' });
      await shows(ada, 'call', { playing: 1, events: ['joined'] });
      await add(grace, 'call', { room: 'events', name: 'Grace', autojoin: '' });
      await shows(ada, 'call', { playing: 2, events: ['joined', 'peer'] });
      await shows(grace, 'call', { playing: 2, events: ['joined', 'peer'] });
      await press(grace, 'call', 'camera');
      await press(grace, 'call', 'microphone');
      await shows(grace, 'call', { playing: 1, buttons: ['Microphone,false', 'Camera,false', 'Leave'] });
      await shows(ada, 'call', { playing: 1, names: ['Ada (you)', 'Grace'] });
      assert.deepEqual(await ada.evaluate(() => [...document.getElementById('call').currentRoom.peers.values()].map(({ info }) => info.metadata)), [{ audio: false, video: false }]);
      await press(grace, 'call', 'camera');
      await shows(ada, 'call', { playing: 2 });
      await grace.evaluate(() => {
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d');
        setInterval(() => context.fillRect(0, 0, (performance.now() / 10) % canvas.width, canvas.height), 50);
        return document.getElementById('call').currentRoom.setTrack('screen', canvas.captureStream(20).getVideoTracks()[0]);
      });
      await shows(ada, 'call', { playing: 3, names: ['Ada (you)', 'Grace', 'Grace (screen)'] });
      await grace.evaluate(() => document.getElementById('call').currentRoom.setTrack('screen', null));
      await shows(ada, 'call', { playing: 2, names: ['Ada (you)', 'Grace'] });
      await press(ada, 'call', 'leave');
      await shows(ada, 'call', { events: ['joined', 'peer', 'left left'], buttons: ['Join'] });
      assert.ok(await ada.evaluate(() => document.getElementById('call').currentRoom === null));
      assert.deepEqual([await ada.evaluate(() => violations), await grace.evaluate(() => violations)], [[], []]);
    });

    it('leaves when it is removed, and stays when it is moved; several are on one page', async () => {
      const page = await open();
      await add(page, 'one', { room: 'first', name: 'Ada', autojoin: '' });
      await add(page, 'two', { room: 'second', name: 'Grace', autojoin: '' });
      await add(page, 'other', { room: 'first', name: 'Eve', autojoin: '' });
      await shows(page, 'one', { names: ['Ada (you)', 'Eve'], playing: 2 });
      await shows(page, 'two', { names: ['Grace (you)'], playing: 1 });
      const room = await page.evaluateHandle(() => document.getElementById('one').currentRoom);
      await page.evaluate(() => {
        const one = document.getElementById('one');
        one.remove();
        document.querySelector('p').append(one);
      });
      // A room that is left would refuse it.
      await room.evaluate((room) => room.send('after the move'));
      assert.ok(await room.evaluate((room) => room === document.getElementById('one').currentRoom && room.state === 'open'));
      const removed = await page.evaluateHandle(() => document.getElementById('one'));
      await removed.evaluate((one) => one.remove());
      await shows(page, 'other', { names: ['Eve (you)'] });
      assert.deepEqual(await removed.evaluate((one) => one.events.at(-1)), 'left left');
      assert.equal(await room.evaluate((room) => room.state), 'closed');
      await shows(page, 'two', { names: ['Grace (you)'], playing: 1, events: ['joined'] });
      await removed.evaluate((one) => document.querySelector('main').append(one));
      await shows(page, 'other', { names: ['Eve (you)', 'Ada'], playing: 2 });
      await page.evaluate(() => document.getElementById('one').setAttribute('room', 'third'));
      await shows(page, 'other', { names: ['Eve (you)'] });
      await shows(page, 'one', { names: ['Ada (you)'], playing: 1 });
    });

    it('asks the backend for tokens, and shows a problem unless the page does', async () => {
      const page = await open();
      await add(page, 'call', { room: 'with-token', name: 'Ada', autojoin: '', 'token-url': '/token' });
      await shows(page, 'call', { playing: 1, events: ['joined'] });
      assert.deepEqual([asked, await page.evaluate(() => document.getElementById('call').currentRoom.client.self.userId.split(':').at(-1))], [['with-token'], 'of-the-backend']);
      await add(page, 'refused', { room: 'secret', autojoin: '', 'token-url': '/token' });
      await shows(page, 'refused', { names: [], status: 'You may not enter this room.', events: ['problem room_not_allowed'], buttons: ['Join'] });
      await page.evaluate(() => document.getElementById('refused').addEventListener('problem', (event) => event.preventDefault()));
      await press(page, 'refused', 'join');
      await shows(page, 'refused', { status: '', events: ['problem room_not_allowed', 'problem room_not_allowed'] });
      await add(page, 'own', { room: 'own-token' });
      await page.evaluate((server) => {
        const own = document.getElementById('own');
        own.getToken = async () => (await (await fetch(`${server}/auth/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"room":"own-token","user":"mine"}' })).json()).token;
        own.join();
      }, server.origin);
      await shows(page, 'own', { events: ['joined'] });
      assert.match(await page.evaluate(() => document.getElementById('own').currentRoom.client.self.userId), /mine$/);
    });

    it('has the texts of the page, and axe finds nothing', async () => {
      const page = await open();
      await add(page, 'call', { room: 'texte', name: 'Ada', 'label-join': 'Beitreten', 'label-leave': 'Verlassen', 'label-microphone': 'Mikrofon', 'label-camera': 'Kamera', 'label-you': 'du' });
      await add(page, 'english', { room: 'texts', name: 'Grace', autojoin: '' });
      await shows(page, 'english', { playing: 1 });
      await shows(page, 'call', { buttons: ['Beitreten'] });
      // The test brings axe, and the policy of the page is not asked.
      await page.evaluate(AXE);
      const violations = () => page.evaluate(async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]));
      assert.deepEqual(await violations(), []);
      await press(page, 'call', 'join');
      await shows(page, 'call', { names: ['Ada (du)'], playing: 1, buttons: ['Mikrofon,true', 'Kamera,true', 'Verlassen'] });
      assert.deepEqual(await violations(), []);
      await page.evaluate(() => document.getElementById('call').setAttribute('label-leave', 'Gehen'));
      await shows(page, 'call', { buttons: ['Mikrofon,true', 'Kamera,true', 'Gehen'] });
    });
  });
}
