// The check page with real servers: what works is OK, and what does not work is named by its step.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chromium } from 'playwright-core';
import { OUTCOMES } from '../../web/check/check-outcomes.js';
import { stunServers, turnServers } from '../../web/check/ice-urls.js';
import { de } from '../../web/texts/check-de.js';
import { en } from '../../web/texts/check-en.js';
import { ja } from '../../web/texts/check-ja.js';
import { freePort } from '../edge/harness.mjs';
import { AnyBrowser } from './any-browser.mjs';
import { Gate } from './gate.mjs';
import { CHROMIUM_FLAGS, until } from './person.mjs';
import { startPrefixProxy } from './prefix-proxy.mjs';
import { EmbeddedServer, TestSite, startDeployment } from './servers.mjs';
import { startNat, startTurnServer } from './turn-server.mjs';

const randomSecret = () => randomBytes(32).toString('hex');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const KEY = `backend:${randomSecret()}`;
const SECRET = randomSecret();
const STEP_IDS = Object.keys(en).flatMap((key) => (key.startsWith('step.') ? [key.slice('step.'.length)] : []));
const ALL_OK = Object.fromEntries(STEP_IDS.map((id) => [id, 'ok']));
const TURN_IDS = ['turn-udp', 'turn-tcp', 'turn-tls'];

const launchChromium = (args) => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args });

/** A second of silence as a WAV file: 16 bits, one channel, 8 kHz. */
function silence() {
  const bytes = Buffer.alloc(44 + 16_000);
  bytes.write('RIFF');
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write('WAVEfmt ', 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(8_000, 24);
  bytes.writeUInt32LE(16_000, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write('data', 36);
  bytes.writeUInt32LE(16_000, 40);
  return bytes;
}

/** A step → its verdict, for steps with the same one. */
const each = (ids, verdict) => Object.fromEntries(ids.map((id) => [id, verdict]));

/** Runs in the page before its scripts: the layout shifts, and the violations of the policy. */
function recordShifts() {
  globalThis.shifts = [];
  new PerformanceObserver((list) => globalThis.shifts.push(...list.getEntries().map(({ value, sources }) => `${value} ${sources.map(({ node }) => node?.id || node?.className)}`))).observe({ type: 'layout-shift', buffered: true });
  document.addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) => globalThis.shifts.push(`${effectiveDirective} ${blockedURI}`));
}

/** Runs in the page: a clock that is ten minutes ahead. */
function setClockAhead() {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...args) {
      super(...(args.length > 0 ? args : [Real.now() + 600_000]));
    }
    static now() {
      return Real.now() + 600_000;
    }
  };
}

/** Runs in the page: as Firefox before 150, whose connections do not say why they get no relay. */
function hideErrors() {
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (type, ...args) {
    if (type !== 'icecandidateerror') listen.call(this, type, ...args);
  };
}

/** Returns the verdict of each step, and fails if the run does not end. */
async function verdictsOf(page) {
  await until('the check has ended', () => page.evaluate(() => document.body.getAttribute('data-check') === 'ended' || document.querySelector('#status').textContent), 40_000);
  return page.evaluate(() => Object.fromEntries([...document.querySelectorAll('.step')].map((row) => [row.id.slice('step-'.length), row.getAttribute('data-state')])));
}

const textOf = (page, selector) => page.evaluate((selector) => document.querySelector(selector).textContent, selector);

async function axeViolations(page) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

/** What must never be in a report: addresses, names of hosts, tokens, candidates and names of devices. */
const SECRETS = [/\d+\.\d+\.\d+\.\d+/, /[0-9a-f]{1,4}:[0-9a-f]*:/i, /localhost|\.local\b|https?:|wss?:|turns?:\S+\d{4}|stuns?:\S/, /eyJ|sb[tri]_|[0-9a-f]{32}/, /candidate|typ (host|srflx|relay)/, /fake_device|Fake|Linux|X11/];

function assertNoSecret(report) {
  for (const secret of SECRETS) assert.doesNotMatch(report.replace(/turns?:HOST:\d+\?transport=\w+/g, ''), secret);
}

describe('the texts of the check page', () => {
  const values = { code: 'token_bad_signature', ms: 10_000, minutes: 10_000, server: 'STUN', transport: 'UDP', form: 'turns:HOST:5349?transport=tcp', working: 2, count: 3, width: 1920, height: 1080, error: 'InvalidAccessError' };
  /** A Japanese character is as wide as two others. */
  const widthOf = (text) => [...text].reduce((sum, character) => sum + (character > '\u2e80' ? 2 : 1), 0);
  for (const [name, verdict] of Object.entries(OUTCOMES)) {
    it(`${name} fits into its place, and has a next step for both readers unless it is OK`, () => {
      for (const texts of [en, de, ja]) {
        const [says, user, operator] = ['says', 'user', 'operator'].map((kind) => texts[`${kind}.${name}`]?.replace(/\{(\w+)\}/g, (_, value) => values[value]));
        assert.ok(widthOf(says) <= 72, says);
        assert.deepEqual([typeof user, typeof operator], verdict === 'ok' ? ['undefined', 'undefined'] : ['string', 'string']);
        for (const text of [says, user ?? says, operator ?? says]) assert.match(text, /^[^\n]*[.。]$/);
      }
    });
  }
});

describe('the URLs of ICE servers', () => {
  for (const [url, ways] of Object.entries({
    'stun:a.example': ['STUN'],
    'STUN:a.example:3478': ['STUN'],
    'stuns:a.example': [],
    'turn:a.example': ['UDP'],
    'turn:[2001:db8::1]:3478?transport=udp': ['UDP'],
    'TURN:a.example?transport=TCP': ['TCP'],
    'turns:a.example': ['TLS'],
    'turns:a.example:443?transport=tcp': ['TLS'],
    'turns:a.example?transport=udp': [],
    'http://a.example': [],
  })) {
    it(`${url} is tested over ${ways.join() || 'nothing'}`, () => {
      const servers = [{ urls: [url], username: 'u', credential: 'c' }];
      const found = ['UDP', 'TCP', 'TLS'].filter((transport) => turnServers(servers, transport).length > 0);
      assert.deepEqual([...(stunServers(servers).length > 0 ? ['STUN'] : []), ...found], ways);
    });
  }
});

describe('the check page', () => {
  const site = new TestSite();
  const ports = {};
  let browser;
  let turnServer;
  let fine;

  before(async () => {
    for (const name of ['turn', 'tls', 'strict', 'full', 'closed']) ports[name] = await freePort();
    [browser, turnServer] = await Promise.all([
      launchChromium(CHROMIUM_FLAGS),
      startTurnServer(site, [SECRET], ports.turn, { tlsPort: ports.tls, flags: ['--verbose'] }),
      // As in production, this one does not relay to itself.
      startTurnServer(site, [SECRET], ports.strict, { flags: ['--denied-peer-ip=127.0.0.1'] }),
      startTurnServer(site, [SECRET], ports.full, { flags: ['--user-quota=1'] }),
    ]);
    ports.nat = await startNat(site, ports.turn);
    fine = await startServer('fine');
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });

  const stun = () => `stun:127.0.0.1:${ports.nat}`;
  const turn = ({ udp = ports.nat, tcp = ports.turn, tls = ports.tls } = {}) => [
    ...(udp ? [`turn:127.0.0.1:${udp}?transport=udp`] : []),
    ...(tcp ? [`turn:127.0.0.1:${tcp}?transport=tcp`] : []),
    ...(tls ? [`turns:localhost:${tls}?transport=tcp`] : []),
  ];

  /** Starts Signalbox with these ICE servers. */
  function startServer(name, { stunUrls = [stun()], turnUrls = turn(), secret = SECRET, policy = 'all', settings = {} } = {}) {
    const file = join(site.dir, `${name}.toml`);
    const lines = ['[ice]', `policy = "${policy}"`, ...(stunUrls.length > 0 ? [`servers = [{ urls = ${JSON.stringify(stunUrls)} }]`] : [])];
    if (turnUrls.length > 0) lines.push('[[ice.turn]]', `urls = ${JSON.stringify(turnUrls)}`);
    writeFileSync(file, `${lines.join('\n')}\n`);
    return EmbeddedServer.start(site, { SIGNALBOX_API_KEYS: KEY, ...(turnUrls.length > 0 && { SIGNALBOX_TURN_SECRETS: secret }), ...settings }, ['--config', file]);
  }

  /** A token for a room of its own, as the operator gets one. */
  async function requestToken({ origin }, room = 'for-the-check') {
    const headers = { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(KEY).toString('base64')}` };
    const response = await fetch(`${origin}/auth/token`, { method: 'POST', headers, body: JSON.stringify({ room, user: 'operator' }) });
    return (await response.json()).token;
  }

  /** The looks that axe has seen: each set of verdicts in each color scheme once. */
  const seen = new Set();

  /** Opens the page, and records what it does. */
  async function open(origin, { from = browser, fragment = '', allowed = ['camera', 'microphone'], init, ...options } = {}) {
    const context = await from.newContext({ permissions: [...allowed, 'clipboard-read', 'clipboard-write'], ignoreHTTPSErrors: true, viewport: { width: 390, height: 844 }, ...options });
    const page = await context.newPage();
    page.problems = [];
    page.requests = [];
    page.sent = [];
    page.on('pageerror', (error) => page.problems.push(String(error)));
    page.on('request', (request) => page.requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
    page.on('websocket', (socket) => {
      page.requests.push(`UPGRADE ${new URL(socket.url()).pathname}`);
      socket.on('framesent', ({ payload }) => page.sent.push(JSON.parse(payload).type));
    });
    await page.addInitScript(recordShifts);
    if (init) await page.addInitScript(init);
    await page.goto(`${origin}/check${fragment}`);
    return page;
  }

  /** Runs the check, and asserts what holds for every run. Returns the verdicts. */
  async function check(page) {
    await page.click('#start');
    const verdicts = await verdictsOf(page);
    const report = await textOf(page, '#report');
    assertNoSecret(report);
    assertNoSecret(await page.evaluate(() => document.body.innerText));
    for (const [id, verdict] of Object.entries(verdicts)) {
      assert.match(report, new RegExp(`^${en[`step.${id}`]}: ${verdict === 'ok' ? 'OK' : verdict[0].toUpperCase() + verdict.slice(1)}\\. `, 'm'));
      // Each step that is not OK has an entry with both next steps.
      const entries = await page.evaluate(() => [...document.querySelectorAll('#advice-list li')].map((entry) => [entry.querySelector('h3').textContent, entry.querySelector('.user').textContent, entry.querySelector('.operator').textContent]));
      const own = entries.filter(([names]) => names.split(', ').includes(en[`step.${id}`]));
      assert.equal(own.length, verdict === 'ok' ? 0 : 1, `${id}: ${JSON.stringify(entries)}`);
      for (const [, user, operator] of own) assert.ok(user && operator);
    }
    assert.deepEqual([await page.evaluate(() => globalThis.shifts), page.problems], [[], []]);
    const look = await page.evaluate(() => `${matchMedia('(prefers-color-scheme: dark)').matches} ${[...new Set([...document.querySelectorAll('.step')].map((row) => row.getAttribute('data-state')))].sort()}`);
    if (!seen.has(look)) assert.deepEqual(await axeViolations(page), []);
    seen.add(look);
    return verdicts;
  }

  const says = (page, id) => textOf(page, `#step-${id} .says`);

  /** Opens the page, runs the check and closes the page. Returns the verdicts and the texts of the steps. */
  async function checkAt(origin, options) {
    const page = await open(origin, options);
    const verdicts = await check(page);
    const texts = {};
    for (const id of STEP_IDS) texts[id] = await says(page, id);
    await page.context().close();
    return { verdicts, texts };
  }

  /** How many allocations the TURN server has made; a request that was repeated has the same session. */
  const allocations = () => new Set([...readFileSync(turnServer.log, 'utf8').matchAll(/session (\d+): .*ALLOCATE processed, success/g)].map(([, session]) => session)).size;

  it('finds that all is well, in a room that it leaves, with the requests that the documents count', async () => {
    const page = await open(fine.origin);
    assert.deepEqual(await axeViolations(page), []);
    page.requests.length = 0;
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Enter');
    assert.deepEqual(await axeViolations(page), [], 'while it runs');
    assert.deepEqual(await verdictsOf(page), ALL_OK);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'start', 'the focus stays');
    assert.match(await textOf(page, '#status'), /^All is well/);
    assert.deepEqual(page.requests.sort(), ['GET /auth/ice', 'HEAD /check', 'POST /auth/token', 'UPGRADE /ws/signal', 'UPGRADE /ws/signal']);
    assert.equal(page.sent.at(-1), 'leave');
    // A browser makes as many for each network interface, and other tests make interfaces.
    assert.ok(allocations() >= 3, `${allocations()} allocations`);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await until('the report is copied', async () => (await textOf(page, '#status')) === 'The report is copied.');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied, await textOf(page, '#report'));
    assertNoSecret(copied);
    // The second run begins afresh.
    assert.deepEqual(await check(page), ALL_OK);
    await page.context().close();
  });

  it('finds that all is well in Firefox', async () => {
    const firefox = await AnyBrowser.launch('firefox');
    try {
      const page = await firefox.open(`${fine.origin}/check`);
      await page.evaluate(() => document.querySelector('#start').click());
      const verdicts = await verdictsOf(page);
      const report = await textOf(page, '#report');
      assert.deepEqual(verdicts, ALL_OK, report);
      assertNoSecret(report);
      assert.deepEqual(await firefox.closePages(), []);
    } finally {
      await firefox.close();
    }
  });

  it('works under a path prefix, in four round trips', async () => {
    const { address, outside, inside } = await startPrefixProxy(site, fine.port, '/calls/now');
    const page = await open(address.slice(0, -1), { viewport: { width: 1440, height: 900 } });
    const files = inside.filter((path) => path !== '/check').map((path) => path.slice(1));
    const named = await (await fetch(`${address}check`)).text().then((document) => document.match(/[\w-]+-[0-9a-f]{16}\.\w+/g));
    assert.deepEqual(files.filter((file) => !named.includes(file)), []);
    assert.deepEqual([...new Set(files)].sort(), [...files].sort());
    assert.ok(files.length >= 4 && files.length <= 6, files.join());
    assert.deepEqual(await check(page), ALL_OK);
    assert.deepEqual(outside.filter((path) => path !== '/favicon.ico'), []);
    await page.context().close();
  });

  // At once, because the page mostly waits for servers that do not answer.
  describe('names what does not work', { concurrency: 4 }, () => {
    /** Name → the server, the options of the page, the verdicts that are not OK, and what steps say. */
    const cases = {
      'the TURN server is stopped': [{ turnUrls: () => turn({ udp: ports.closed, tcp: ports.closed, tls: ports.closed }) }, each(TURN_IDS, 'failed'), { 'turn-udp': /does not answer over UDP/, 'turn-tcp': /does not answer over TCP/, 'turn-tls': /does not answer over TLS/ }],
      'the TURN server has another secret': [{ secret: randomSecret() }, each(TURN_IDS, 'failed'), { 'turn-udp': /refuses the credentials/, 'turn-tcp': /refuses the credentials/, 'turn-tls': /refuses the credentials/ }],
      'the TCP port of the TURN server is closed': [{ turnUrls: () => turn({ tcp: ports.closed }) }, { 'turn-tcp': 'failed' }, { 'turn-tcp': /does not answer over TCP/ }],
      'there is no TURN over TLS': [{ turnUrls: () => turn({ tls: 0 }) }, { 'turn-tls': 'skipped' }, { 'turn-tls': /no TURN server over TLS/ }],
      'there is no TURN server': [{ turnUrls: () => [] }, each(TURN_IDS, 'warning'), { 'turn-tls': /names no TURN server/ }],
      'there is neither STUN nor TURN over UDP': [{ stunUrls: [], turnUrls: () => turn({ udp: 0 }) }, { stun: 'warning', 'turn-udp': 'skipped' }, { stun: /names no STUN server/ }],
      'there is no STUN server, but TURN over UDP': [{ stunUrls: [] }, {}, { stun: /^The TURN server told/ }],
      'the STUN server does not answer': [{ stunUrls: () => [`stun:127.0.0.1:${ports.closed}`] }, { stun: 'failed' }, { stun: /STUN server does not answer/ }],
      'the TURN server does not relay to itself, and nothing else is allowed': [{ policy: 'relay', turnUrls: () => turn({ udp: 0, tcp: ports.strict, tls: 0 }) }, { stun: 'skipped', 'turn-udp': 'skipped', 'turn-tcp': 'failed', 'turn-tls': 'skipped' }, { 'turn-tcp': /must go through the relay, but no data does/ }],
      'the TURN server relays to no address of this browser': [{ turnUrls: () => turn({ tcp: ports.strict }) }, { 'turn-tcp': 'warning' }, { 'turn-tcp': /no data came through/ }],
      'there is no TURN server, and nothing else is allowed': [{ policy: 'relay', turnUrls: () => [] }, { stun: 'skipped', ...each(TURN_IDS, 'failed') }, { 'turn-udp': /there is no TURN server/ }],
      'one of two TURN servers is stopped': [{ turnUrls: () => [...turn(), `turn:127.0.0.1:${ports.closed}?transport=tcp`] }, { 'turn-tcp': 'warning' }, { 'turn-tcp': /Only 1 of 2/ }],
    };
    for (const [name, [{ turnUrls, stunUrls, ...options }, verdicts, texts]] of Object.entries(cases)) {
      it(name, async () => {
        const value = (given) => (typeof given === 'function' ? given() : given);
        const server = await startServer(name.replaceAll(' ', '-'), { ...options, turnUrls: value(turnUrls), stunUrls: value(stunUrls) });
        const found = await checkAt(server.origin, { colorScheme: 'dark', viewport: { width: 844, height: 390 } });
        assert.deepEqual(found.verdicts, { ...ALL_OK, ...verdicts }, JSON.stringify(found.texts));
        for (const [id, text] of Object.entries(texts)) assert.match(found.texts[id], text);
      });
    }

    it('the TURN server has no free place', async () => {
      const server = await startServer('full', { turnUrls: turn({ udp: 0, tcp: ports.full, tls: 0 }) });
      const token = await requestToken(server);
      const { iceServers } = await (await fetch(`${server.origin}/auth/ice`, { headers: { Authorization: `Bearer ${token}` } })).json();
      const page = await open(server.origin, { fragment: `#token=${token}` });
      await page.evaluate(async (servers) => {
        const pc = (globalThis.holder = new RTCPeerConnection({ iceServers: servers.filter(({ username }) => username), iceTransportPolicy: 'relay' }));
        pc.createDataChannel('holder');
        await pc.setLocalDescription();
        await new Promise((resolve) => (pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && resolve()));
      }, iceServers);
      assert.deepEqual(await check(page), { ...ALL_OK, 'turn-udp': 'skipped', 'turn-tcp': 'failed', 'turn-tls': 'skipped' });
      assert.match(await says(page, 'turn-tcp'), /no free place/);
      await page.context().close();
    });

    for (const [what, blocked, text, others] of [
      ['WebSockets only', /^\/ws\/signal/, /accepts the login, but no WebSocket opens/, {}],
      ['all of /ws/', /^\/ws\//, /from a proxy/, {}],
    ]) {
      it(`a proxy answers with HTML: ${what}`, async () => {
        const gate = await Gate.start(site, fine.port);
        gate.blocked = blocked;
        const { verdicts, texts } = await checkAt(gate.origin);
        assert.deepEqual(verdicts, { ...ALL_OK, upgrade: 'failed', resume: 'skipped', ...others });
        assert.match(texts.upgrade, text);
      });
    }

    it('a proxy lets no WebSocket answer', async () => {
      const gate = await Gate.start(site, fine.port);
      gate.upgradeDelayMs = 60_000;
      const { verdicts, texts } = await checkAt(gate.origin);
      assert.deepEqual(verdicts, { ...ALL_OK, upgrade: 'failed', resume: 'skipped' });
      assert.match(texts.upgrade, /stayed silent, or was cut/);
    });

    it('the browser does not say why it gets no relay', async () => {
      const server = await startServer('unexplained', { secret: randomSecret() });
      const { verdicts, texts } = await checkAt(server.origin, { init: hideErrors });
      assert.deepEqual(verdicts, { ...ALL_OK, ...each(TURN_IDS, 'failed') });
      assert.match(texts['turn-udp'], /gave no relay address/);
    });

    it('a proxy answers with HTML in place of the auth service', async () => {
      const gate = await Gate.start(site, fine.port);
      gate.blocked = /^\/auth\//;
      const { verdicts, texts } = await checkAt(gate.origin);
      assert.deepEqual(verdicts, { ...ALL_OK, access: 'failed', upgrade: 'warning', ...each(['resume', 'stun', ...TURN_IDS], 'skipped') });
      assert.match(texts.access, /from a proxy/);
    });

    it('the server has stopped since', async () => {
      const gate = await Gate.start(site, fine.port);
      const page = await open(gate.origin);
      gate.cut();
      const verdicts = await check(page);
      assert.deepEqual(verdicts, { ...ALL_OK, ...each(['access', 'upgrade', 'clock'], 'failed'), ...each(['resume', 'stun', ...TURN_IDS], 'skipped') });
      await page.context().close();
    });

    it('guests are off: what needs a login is skipped, and a token in the fragment runs everything', async () => {
      const server = await startServer('no-guests', { settings: { SIGNALBOX__AUTH__GUESTS: 'false' } });
      const skipped = each(['resume', 'stun', ...TURN_IDS], 'skipped');
      const without = await checkAt(server.origin);
      assert.deepEqual(without.verdicts, { ...ALL_OK, access: 'warning', upgrade: 'warning', ...skipped });
      assert.match(without.texts.access, /Resume, STUN and TURN need a login/);

      const gate = await Gate.start(site, server.port);
      gate.blocked = /^\/ws\//;
      assert.equal((await checkAt(gate.origin)).verdicts.upgrade, 'failed', 'the address of the WebSocket');

      const page = await open(server.origin, { fragment: `#token=${await requestToken(server)}` });
      assert.equal(await page.evaluate(() => location.hash + location.search), '', 'the token has left the address bar');
      assert.deepEqual(await check(page), ALL_OK);
      assert.ok(!page.requests.includes('POST /auth/token'));
      await page.context().close();

      const bad = await checkAt(server.origin, { fragment: '#token=not.a.token' });
      assert.deepEqual(bad.verdicts, { ...ALL_OK, access: 'failed', upgrade: 'warning', ...skipped });
      assert.match(bad.texts.access, /refuses the token of this link \(token_malformed\)/);
    });

    it('guests may join other rooms only', async () => {
      const server = await startServer('guest-rooms', { settings: { SIGNALBOX__AUTH__GUEST_ROOMS: 'lounge' } });
      const { verdicts } = await checkAt(server.origin);
      assert.deepEqual(verdicts, { ...ALL_OK, access: 'warning', upgrade: 'warning', ...each(['resume', 'stun', ...TURN_IDS], 'skipped') });
    });

    it('nothing, where a connection needs a ticket', async () => {
      const server = await startServer('tickets', { settings: { SIGNALBOX__AUTH__TICKETS_ONLY: 'true' } });
      assert.deepEqual((await checkAt(server.origin)).verdicts, ALL_OK);
    });

    it('the room of the token has a lobby', async () => {
      const headers = { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(KEY).toString('base64')}` };
      const created = await fetch(`${fine.origin}/api/rooms`, { method: 'POST', headers, body: '{"id":"with-lobby","lobby":true}' });
      assert.equal(created.status, 201, await created.text());
      const { verdicts, texts } = await checkAt(fine.origin, { fragment: `#token=${await requestToken(fine, 'with-lobby')}` });
      assert.deepEqual(verdicts, { ...ALL_OK, resume: 'skipped' });
      assert.match(texts.resume, /waits in the lobby/);
    });

    it('another tab uses the same token', async () => {
      const fragment = `#token=${await requestToken(fine, 'two-tabs')}`;
      const [first, second] = [await open(fine.origin, { fragment }), await open(fine.origin, { fragment })];
      await first.evaluate(async (token) => {
        const { SignalingClient } = await import('/client/client.js');
        globalThis.holder = new SignalingClient({ getToken: () => token });
        await globalThis.holder.connect();
      }, fragment.slice('#token='.length));
      assert.deepEqual(await check(second), { ...ALL_OK, upgrade: 'failed', resume: 'skipped' });
      assert.match(await says(second, 'upgrade'), /token_in_use/);
      await Promise.all([first, second].map((page) => page.context().close()));
    });

    it('the clock is wrong by ten minutes, and tokens work all the same', async () => {
      const { verdicts, texts } = await checkAt(fine.origin, { init: setClockAhead });
      assert.deepEqual(verdicts, { ...ALL_OK, clock: 'warning' });
      assert.match(texts.clock, /10 min ahead of the server/);
    });

    it('the camera and the microphone are refused', async () => {
      const { verdicts, texts } = await checkAt(fine.origin, { allowed: [] });
      assert.deepEqual(verdicts, { ...ALL_OK, camera: 'failed', microphone: 'failed' });
      assert.match(texts.camera, /camera is blocked/);
    });

    it('only the microphone is allowed', async () => {
      const { verdicts } = await checkAt(fine.origin, { allowed: ['microphone'] });
      assert.deepEqual(verdicts, { ...ALL_OK, camera: 'failed' });
    });

    it('there is no camera and no microphone', async () => {
      const bare = await launchChromium(CHROMIUM_FLAGS.filter((flag) => !flag.startsWith('--use-fake-device')));
      try {
        const { verdicts, texts } = await checkAt(fine.origin, { from: bare });
        assert.deepEqual(verdicts, { ...ALL_OK, camera: 'warning', microphone: 'warning' });
        assert.match(texts.microphone, /No microphone was found/);
      } finally {
        await bare.close();
      }
    });

    it('the microphone is silent', async () => {
      const file = join(site.dir, 'silence.wav');
      writeFileSync(file, silence());
      const silent = await launchChromium([...CHROMIUM_FLAGS, `--use-file-for-fake-audio-capture=${file}`]);
      try {
        assert.deepEqual((await checkAt(fine.origin, { from: silent })).verdicts, { ...ALL_OK, microphone: 'warning' });
      } finally {
        await silent.close();
      }
    });

    it('nothing but TURN, behind the edge with two nodes', async () => {
      const { origin } = await startDeployment(site);
      const verdicts = { ...ALL_OK, stun: 'warning', ...each(TURN_IDS, 'warning') };
      assert.deepEqual((await checkAt(origin)).verdicts, verdicts);
      const bad = await checkAt(origin, { fragment: '#token=not.a.token' });
      assert.deepEqual(bad.verdicts, { ...ALL_OK, access: 'failed', upgrade: 'warning', ...each(['resume', 'stun', ...TURN_IDS], 'skipped') });
    });
  });
});
