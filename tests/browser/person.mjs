// Persons that use the call page in a browser with a fake camera, and assertions about their pages.
// The page needs no test code: a wrapped RTCPeerConnection records the connections, and the browser
// reports the frames of the WebSockets.

import { chromium } from 'playwright-core';
import { setTimeout as pause } from 'node:timers/promises';

const DEADLINE_MS = 20_000;

export const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // A low rate, because one machine encodes many videos at once.
  '--use-fake-device-for-media-stream=fps=10',
  '--autoplay-policy=no-user-gesture-required',
  // The test environment may have only the loopback interface.
  '--allow-loopback-in-peer-connection',
  // Pages without a camera use multicast names as addresses, which loopback cannot announce.
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  // The certificate of the edge is self-signed.
  '--ignore-certificate-errors',
];

const launchChromium = (flags) => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: [...CHROMIUM_FLAGS, ...flags] });

/** Repeats a check until it returns true; the error after the deadline contains the last result. */
export async function until(description, check, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (let last; ; await pause(50)) {
    // The check throws while a page loads, because it has no document.
    last = await Promise.resolve().then(check).catch((error) => error);
    if (last === true) return;
    if (Date.now() > end) throw new Error(`not in ${deadlineMs} ms: ${description}; last result: ${last instanceof Error ? last : JSON.stringify(last)}`);
  }
}

/** Runs in each page before the scripts of the page. */
function recordConnections() {
  const connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      connections.push(this);
    }
  };
  Object.defineProperty(globalThis, 'connectionsMade', { value: connections });
  document.addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI, sourceFile }) =>
    console.error(`policy violated: ${effectiveDirective} by ${blockedURI} in ${sourceFile}`),
  );
}

/** Runs in the page: returns the received and the sent media of each open connection. */
async function readTraffic() {
  const open = connectionsMade.map((pc, id) => ({ pc, id })).filter(({ pc }) => pc.connectionState !== 'closed');
  return Promise.all(
    open.map(async ({ pc, id }) => {
      const inbound = [...(await pc.getStats()).values()].filter(({ type }) => type === 'inbound-rtp');
      const sum = (kind, member) => inbound.filter((stats) => stats.kind === kind).reduce((total, stats) => total + (stats[member] ?? 0), 0);
      const sends = (kind) => pc.getSenders().some(({ track }) => track?.kind === kind && track.enabled && track.readyState === 'live');
      return {
        id,
        state: pc.connectionState,
        pictures: sum('video', 'framesDecoded'),
        sound: sum('audio', 'packetsReceived'),
        sends: { audio: sends('audio'), video: sends('video') },
      };
    }),
  );
}

/** One browser; each person has its own storage, permissions and page. */
export class SharedBrowser {
  #browser;
  #people = [];

  /** @param {string[]} [flags] of Chromium, beside {@link CHROMIUM_FLAGS} */
  static async launch(flags = []) {
    const shared = new SharedBrowser();
    shared.#browser = await launchChromium(flags);
    return shared;
  }

  /**
   * @param {{camera?: boolean, viewport?: {width: number, height: number}, colorScheme?: string}}
   *   [options] `camera`: whether the person allows it
   */
  async person({ camera = true, viewport = { width: 1280, height: 800 }, colorScheme = 'dark' } = {}) {
    const permissions = camera ? ['camera', 'microphone'] : [];
    const context = await this.#browser.newContext({ ignoreHTTPSErrors: true, permissions, viewport, colorScheme });
    const person = new Person(await context.newPage());
    await person.page.addInitScript(recordConnections);
    this.#people.push(person);
    return person;
  }

  async joins(origin, room, name, options) {
    const person = await this.person(options);
    await person.joins(origin, room, name);
    return person;
  }

  /** Joins with a token of this role. @param {string} apiKey `id:secret` of a key that may issue it */
  async joinsAs(role, apiKey, origin, room, name) {
    const person = await this.person();
    await person.usesRole(role, apiKey);
    await person.joins(origin, room, name);
    return person;
  }

  /** Closes all pages, and returns their errors and warnings. */
  async closePages() {
    const problems = this.#people.flatMap(({ problems }) => problems);
    await Promise.all(this.#browser.contexts().map((context) => context.close()));
    this.#people = [];
    return problems;
  }

  close() {
    return this.#browser?.close();
  }
}

// The browser reports a lost network itself.
const NETWORK_ERROR = /net::ERR_|WebSocket connection to .* failed/;

export class Person {
  /** How often the page was loaded. */
  loads = 0;
  /** The `joined` frames of the page, in order. */
  joined = [];
  /** The `resumed` frames of the page, in order. */
  resumed = [];
  /** The node that serves the page. @type {string | undefined} */
  node;
  /** @type {string | undefined} */
  peerId;
  /** How many sockets the page has opened. */
  sockets = 0;
  /** The addresses of all requests and sockets of the page. */
  addresses = [];
  /** The tokens that the page received. */
  tokens = [];
  /** Errors and warnings of the page. */
  problems = [];
  /** Errors that the test causes on purpose. @type {RegExp | undefined} */
  expectedProblems;

  constructor(page) {
    this.page = page;
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('domcontentloaded', () => (this.loads += 1));
    page.on('pageerror', (error) => this.problems.push(String(error)));
    page.on('console', (message) => {
      const text = `${message.text()} (${message.location().url})`;
      const isProblem = ['warning', 'error'].includes(message.type()) && !NETWORK_ERROR.test(text) && !this.expectedProblems?.test(text);
      if (isProblem) this.problems.push(text);
    });
    page.on('request', (request) => this.addresses.push(request.url()));
    page.on('response', (response) => {
      if (response.url().endsWith('/auth/token')) response.json().then(({ token }) => token && this.tokens.push(token), () => {});
    });
    page.on('websocket', (socket) => {
      this.addresses.push(socket.url());
      this.sockets += 1;
      socket.on('framereceived', ({ payload }) => {
        const frame = JSON.parse(payload);
        if (frame.type === 'joined') this.joined.push(frame);
        if (frame.type === 'resumed') this.resumed.push(frame);
        if (frame.node !== undefined) [this.node, this.peerId] = [frame.node, frame.peerId];
      });
    });
  }

  /**
   * Requests tokens as the backend of an application does: with an API key and a role.
   *
   * @param {string} role
   * @param {string} key `id:secret`
   */
  async usesRole(role, key) {
    await this.page.route('**/auth/token', async (route) => {
      const headers = { ...route.request().headers(), authorization: `Basic ${Buffer.from(key).toString('base64')}` };
      const response = await route.fetch({ headers, postData: JSON.stringify({ ...route.request().postDataJSON(), role }) });
      await route.fulfill({ response });
    });
  }

  /** Joins with a link that needs no click. */
  async joins(origin, room, name) {
    const joins = this.joined.length;
    await this.page.goto(`${origin}/?${new URLSearchParams({ room, name, autojoin: '1' })}`);
    await until(`${name} joins ${room}`, () => this.joined.length > joins);
  }

  /** Joins from the start page, after the camera is switched off there. */
  async joinsWithoutCamera(origin, room, name) {
    await this.page.goto(`${origin}/?${new URLSearchParams({ room, name })}`);
    await this.page.locator('.start-page[data-video]').waitFor();
    await this.page.click('.start-page [data-toggle=video]');
    await this.page.click('#join-button');
    await until(`${name} joins ${room}`, () => this.joined.length > 0);
  }

  /** @param {'audio' | 'video'} kind */
  toggles(kind) {
    return this.page.click(`.toolbar [data-toggle=${kind}]`);
  }

  /** Opens the page in a second tab, which starts with a copy of the sessionStorage. */
  async duplicatesTab() {
    const [page] = await Promise.all([this.page.waitForEvent('popup'), this.page.evaluate(() => void open(location.href))]);
    const duplicate = new Person(page);
    await until('the other tab has joined', () => duplicate.joined.length > 0);
    return duplicate;
  }

  async reloads() {
    const joins = this.joined.length;
    await this.page.reload();
    await until('the page has joined again', () => this.joined.length > joins);
  }

  traffic() {
    return this.page.evaluate(readTraffic);
  }

  /** Waits for this number of connections, each with new video and sound. */
  async receives(others) {
    const before = new Map((await this.traffic()).map(({ id, pictures }) => [id, pictures]));
    await until(`${others} connections bring new pictures and sound`, async () => {
      const now = await this.traffic();
      return (now.length === others && now.every(({ id, pictures, sound }) => pictures > (before.get(id) ?? 0) + 2 && sound > 0)) || now;
    });
  }

  /** Waits for this number of connections, each with new sound. */
  async hears(others) {
    const before = new Map((await this.traffic()).map(({ id, sound }) => [id, sound]));
    await until(`${others} connections bring new sound`, async () => {
      const now = await this.traffic();
      return (now.length === others && now.every(({ id, sound }) => sound > (before.get(id) ?? 0) + 10)) || now;
    });
  }

  /** Whether no connection receives new media for a while. @param {number} ms */
  async hearsNothing(ms) {
    const sum = async () => (await this.traffic()).reduce((total, { pictures, sound }) => total + pictures + sound, 0);
    const before = await sum();
    await pause(ms);
    return (await sum()) - before === 0;
  }

  /** Asserts that all connections receive sound for a while. @param {number} ms */
  async keepsHearing(ms) {
    const end = Date.now() + ms;
    while (Date.now() < end) await this.hears((await this.traffic()).length);
  }

  /** Waits until this number of other people is received and visible. */
  async seesAndHears(others) {
    await this.receives(others);
    await until(`${others} tiles show a picture`, async () => {
      const shown = await this.page.locator('.tile[data-peer-id][data-video]').count();
      return (shown === others && (await this.names()).length === others) || `${shown} of ${await this.names()}`;
    });
  }

  /** The names of the other people on the visible tiles. */
  async names() {
    return (await this.page.locator('.tile[data-peer-id]:not([hidden]) .tile-name span').allTextContents()).sort();
  }

  async sees(...names) {
    await until(`tiles of ${names}`, async () => String(await this.names()) === String(names.sort()) || (await this.names()));
  }

  /** Waits until a visible element of the page has this text. */
  async reads(selector, pattern) {
    await until(`${selector} says ${pattern}`, async () => {
      const element = this.page.locator(selector);
      return ((await element.isVisible()) && pattern.test(await element.innerText())) || element.innerText();
    });
  }
}

/** Waits until each person sees and hears all others. */
export const allSeeEachOther = (...people) => Promise.all(people.map((person) => person.seesAndHears(people.length - 1)));
