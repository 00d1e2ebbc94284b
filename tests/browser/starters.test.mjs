// The pages in examples/, as a web site on another origin than Signalbox.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, playsVideos } from './any-browser.mjs';
import { setServer, startFolderSite } from './example-site.mjs';
import { until } from './person.mjs';
import { freePort } from '../edge/harness.mjs';
import { EmbeddedServer, TestSite, repo } from './servers.mjs';

const EXAMPLES = ['page-other-origin', 'react-call', 'data-game'];

const folder = (name) => join(repo, 'examples', name);

/** The code with which a page asks its own backend for tokens. */
const [backendCode, ...moreCode] = [...readFileSync(folder('README.md'), 'utf8').matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);

const site = new TestSite();
const secret = randomBytes(32).toString('hex');
/** Example → its origin. */
const origins = {};
let backendPort;
let server;

before(async () => {
  const react = join(site.dir, 'react-call');
  cpSync(folder('react-call'), react, { recursive: true });
  const edit = (text) => setServer(text, server.origin);
  for (const name of EXAMPLES) origins[name] = await startFolderSite(site, name === 'react-call' ? join(react, 'www') : folder(name), { edit });
  backendPort = await freePort();
  // The backend answers below the origin of the page, as behind an edge proxy.
  origins.withBackend = await startFolderSite(site, folder('page-other-origin'), { edit: (text) => edit(useBackend(text)), backendPort });
  const settings = { SIGNALBOX_API_KEYS: `shop:${secret}`, SIGNALBOX__SERVER__ALLOWED_ORIGINS: Object.values(origins).join() };
  server = await EmbeddedServer.start(site, settings);
  buildReactApp(react);
});
after(() => site.close());

/** Changes the page as README.md says. */
const useBackend = (text) => text.replace('{ join }', '{ join, SignalingError }').replace(/^ *const options = .*\n/m, backendCode);

/**
 * Builds the React example as its README says, with the package that the server offers. The build is
 * that of `npm start`, in which StrictMode mounts each component twice.
 */
function buildReactApp(copy) {
  // There is no registry here, and npm asks for the optional React of the package.
  const env = { PATH: process.env.PATH, HOME: site.dir, npm_config_fetch_retries: '0', npm_config_update_notifier: 'false' };
  const run = (...args) => execFileSync('npm', args, { cwd: copy, env, stdio: 'pipe' });
  run('install', '--no-audit', '--no-fund', `${server.origin}/client/signalbox-client.tgz`);
  const { start } = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8')).scripts;
  run('exec', '--call', start.replace(/ --serve\S*/g, ''));
}

it('every page in examples/ is tested here', () => {
  const pages = readdirSync(join(repo, 'examples'), { withFileTypes: true }).filter((entry) => entry.isDirectory() && !entry.name.startsWith('token-'));
  assert.deepEqual(pages.map(({ name }) => name).sort(), EXAMPLES.toSorted());
});

describe('the pages in examples/', () => {
  let browser;

  before(async () => (browser = await AnyBrowser.launch('chromium')));
  after(() => browser?.close());
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const status = (page) => page.evaluate(() => document.querySelector('[role=status]').textContent);
  const press = (page, label) => page.evaluate((label) => [...document.querySelectorAll('button')].find((button) => [button.textContent.trim(), button.ariaLabel].includes(label)).click(), label);

  for (const example of ['page-other-origin', 'react-call']) {
    const names = (page) => page.evaluate(() => [...document.querySelectorAll('figcaption')].map((caption) => caption.textContent).join());
    const isAlone = (page) => page.evaluate(() => document.querySelectorAll('video').length === 0 && document.querySelector('form')?.hidden === false);
    const joinAs = async (name) => {
      const page = await browser.open(`${origins[example]}/`);
      await until('the form is there', () => page.evaluate(() => document.querySelector('input') !== null));
      await page.type('input', name);
      await press(page, 'Join');
      return page;
    };

    it(`${example}: two people see each other until one leaves, and again when both are back`, async () => {
      const [ada, grace] = [await joinAs('Ada'), await joinAs('Grace')];
      await Promise.all([playsVideos(ada, 2), playsVideos(grace, 2)]);
      assert.deepEqual([await names(ada), await names(grace)], ['You,Grace', 'You,Ada']);
      // Also with StrictMode, which mounts each component twice.
      const joins = await ada.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/auth/token')).length);
      assert.equal(joins, 1);
      const camera = await ada.evaluateHandle(() => document.querySelector('video').srcObject);
      await press(ada, 'Leave');
      await playsVideos(grace, 1);
      await until('Ada sees the form', () => isAlone(ada));
      assert.ok(await camera.evaluate((stream) => stream.getTracks().every(({ readyState }) => readyState === 'ended')), 'the camera is off');
      await grace.goto('about:blank');
      const again = [await joinAs('Ada'), await joinAs('Grace')];
      await Promise.all(again.map((page) => playsVideos(page, 2)));
    });
  }

  it('data-game: two players see the moves of each other, and who catches the star', async () => {
    const [ada, grace] = [await browser.open(`${origins['data-game']}/`), await browser.open(`${origins['data-game']}/`)];
    const places = (page) => page.evaluate(() => {
      const place = (element) => [Number(element.style.gridColumnStart), Number(element.style.gridRowStart)];
      const [star, self, ...others] = ['#star', '.self', '.player:not(.self)'].flatMap((selector) => [...document.querySelectorAll(selector)]);
      return { star: place(star), self: place(self), others: others.map(place) };
    });
    const scores = (page) => page.evaluate(() => [...document.querySelectorAll('#scores li')].map((item) => Number(/: (\d+)$/.exec(item.textContent)[1])).join());
    const agree = () => until('both pages show the same', async () => {
      const [one, two] = [await places(ada), await places(grace)];
      return JSON.stringify([one.star, one.self, one.others]) === JSON.stringify([two.star, two.others[0], [two.self]]) || { one, two };
    });
    await agree();
    for (const [page, other, catches] of [[ada, grace, ['1,0', '0,1']], [grace, ada, ['1,1', '1,1']]]) {
      const { star, self } = await places(page);
      for (let step = self[0]; step !== star[0]; step += Math.sign(star[0] - step)) await press(page, step < star[0] ? 'right' : 'left');
      for (let step = self[1]; step !== star[1]; step += Math.sign(star[1] - step)) await press(page, step < star[1] ? 'down' : 'up');
      await until('both know the score', async () => (String([await scores(page), await scores(other)]) === String(catches)) || [await scores(page), await scores(other)]);
      await agree();
    }
    await ada.goto('about:blank');
    await until('the player has gone', async () => (await scores(grace)) === '1');
  });

  it('data-game: ignores what is no move of a player', async () => {
    const game = await browser.open(`${origins['data-game']}/`);
    const other = await browser.open(`${origins['page-other-origin']}/`);
    const sends = (data) => other.evaluate((data) => sendAll(data), data);
    await other.evaluate(async (server) => {
      const { join } = await import(`${server}/client/signalbox.js`);
      const channels = [];
      globalThis.sendAll = (texts) => channels.forEach((channel) => texts.forEach((text) => channel.send(text)));
      globalThis.room = await join({ url: server, room: 'star-game', name: '<b>Eve</b>' });
      const hasChannel = new Promise((resolve) => room.on('peer', (peer) => peer.on('datachannel', (channel) => resolve(channels.push(channel)))));
      await hasChannel;
    }, server.origin);
    const move = { x: 1, y: 2, score: 3 };
    const invalid = ['x', 'y', 'score'].flatMap((member) => [-1, 8000, 0.5, '1', null, [1]].map((value) => ({ ...move, [member]: value })));
    await sends(['', '{', 'null', '7', '[]', '{}', '"x"', 'x'.repeat(60_000), ...invalid.map((state) => JSON.stringify(state))]);
    await sends([JSON.stringify({ ...move, name: 'Ada', color: 'red' })]);
    const list = () => game.evaluate(() => [...document.querySelectorAll('#scores li')].map((item) => item.innerHTML).join());
    await until('only the last one counts', async () => (await list()) === 'You: 0,&lt;b&gt;Eve&lt;/b&gt;: 3' || list());
  });

  it('page-other-origin: says what to do if its origin is not allowed', async () => {
    const other = await startFolderSite(site, folder('page-other-origin'), { edit: (text) => setServer(text, server.origin) });
    const page = await browser.open(`${other}/`);
    await page.type('input', 'Ada');
    await press(page, 'Join');
    await until('the reason', async () => /server\.allowed_origins/.test(await status(page)) || status(page));
  });

  it('page-other-origin: joins as a user of the backend, with the code of the README', async () => {
    assert.deepEqual(moreCode, []);
    const login = { username: 'ada', password: randomBytes(16).toString('hex') };
    const settings = { SIGNALBOX_URL: server.origin, KEY_ID: 'shop', KEY_SECRET: secret, DEMO_LOGIN: `${login.username}:${login.password}`, PORT: `${backendPort}` };
    await site.waitForPort(backendPort, site.startProcess('token-express', 'node', [join(folder('token-express'), 'token.js')], settings));
    const page = await browser.open(`${origins.withBackend}/`);
    // The browser sends them when the backend asks for them.
    await page.context().setHTTPCredentials({ ...login, password: 'wrong' });
    await page.type('input', 'Ada');
    await press(page, 'Join');
    await until('the refusal of the backend', async () => (await status(page)) === 'You are not in the call. Log in first.' || status(page));
    await page.context().setHTTPCredentials(login);
    await press(page, 'Join');
    await until('the page is in the room', async () => (await status(page)) === 'You are in the call.' || status(page));
    const other = await browser.open(`${origins['page-other-origin']}/`);
    await other.type('input', 'Grace');
    await press(other, 'Join');
    await Promise.all([page, other].map((page) => playsVideos(page, 2)));
    await page.context().setHTTPCredentials(null);
  });
});
