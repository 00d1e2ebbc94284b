// People in front of the call page: a browser with a made-up camera, and what each of them sees. Nothing here needs the page's help:
// connections are remembered by wrapping RTCPeerConnection, frames are read off the page's WebSockets.

import { chromium } from 'playwright-core';
import { setTimeout as pause } from 'node:timers/promises';

const DEADLINE = 20_000;

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Enough to see that pictures move, on a machine that codes many of them at once.
  '--use-fake-device-for-media-stream=fps=10',
  '--autoplay-policy=no-user-gesture-required',
  // There is no interface but loopback where these tests run.
  '--allow-loopback-in-peer-connection',
  // Pages without a camera hide their address behind a multicast name, which loopback cannot announce.
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  // The edge's certificate is its own.
  '--ignore-certificate-errors',
];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });

/** Asks until the answer is true; after the deadline it is an error that tells the last answer. */
export async function until(what, holds, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  for (let last; ; await pause(50)) {
    // A page that is being loaded has no document to ask.
    last = await Promise.resolve().then(holds).catch((error) => error);
    if (last === true) return;
    if (Date.now() > end) throw new Error(`not in ${deadline} ms: ${what}; at last: ${last instanceof Error ? last : JSON.stringify(last)}`);
  }
}

/** Runs in every page before its own scripts. */
function watch() {
  const made = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      made.push(this);
    }
  };
  Object.defineProperty(globalThis, 'connectionsMade', { value: made });
  document.addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI, sourceFile }) =>
    console.error(`policy violated: ${effectiveDirective} by ${blockedURI} in ${sourceFile}`),
  );
}

/** Runs in the page: what arrives and what is sent on every connection that is not closed. */
async function traffic() {
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

/** A crowd shares a browser; every person has a storage, a permission and a page of their own. */
export class Crowd {
  #browser;
  #people = [];

  static async gather() {
    const crowd = new Crowd();
    crowd.#browser = await launch();
    return crowd;
  }

  /** @param {{camera?: boolean, viewport?: {width: number, height: number}}} [options] `camera`: what this person answers when asked */
  async person({ camera = true, viewport = { width: 1280, height: 800 } } = {}) {
    const permissions = camera ? ['camera', 'microphone'] : [];
    const context = await this.#browser.newContext({ ignoreHTTPSErrors: true, permissions, viewport });
    const person = new Person(await context.newPage());
    await person.page.addInitScript(watch);
    this.#people.push(person);
    return person;
  }

  async joins(origin, room, name, options) {
    const person = await this.person(options);
    await person.joins(origin, room, name);
    return person;
  }

  /** Everybody goes home; what their pages complained about is returned. */
  async disperse() {
    const complaints = this.#people.flatMap(({ complaints }) => complaints);
    await Promise.all(this.#browser.contexts().map((context) => context.close()));
    this.#people = [];
    return complaints;
  }

  close() {
    return this.#browser?.close();
  }
}

// The network itself is lost where a test takes it away, and the browser says so by itself.
const NO_COMPLAINT = /net::ERR_|WebSocket connection to .* failed/;

export class Person {
  /** How often the page was loaded. */
  loads = 0;
  /** Every `joined` frame that reached the page, the last one last. */
  joined = [];
  /** Every `resumed` frame, likewise. */
  resumed = [];
  /** Which node serves the page. @type {string | undefined} */
  node;
  /** As whom. @type {string | undefined} */
  peerId;
  /** How many sockets the page has opened. */
  sockets = 0;
  /** Every address the page asked for, sockets too. */
  addresses = [];
  /** The tokens that were given to the page. */
  tokens = [];
  complaints = [];
  /** What the browser may complain of, because the test brings it about. @type {RegExp | undefined} */
  expected;

  constructor(page) {
    this.page = page;
    page.setDefaultTimeout(DEADLINE);
    page.on('domcontentloaded', () => (this.loads += 1));
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('console', (message) => {
      const text = `${message.text()} (${message.location().url})`;
      const bad = ['warning', 'error'].includes(message.type()) && !NO_COMPLAINT.test(text) && !this.expected?.test(text);
      if (bad) this.complaints.push(text);
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

  /** This person comes through an application, whose backend asks for the tokens with its key and a role. @param {string} role @param {string} key `id:secret` */
  async hasRole(role, key) {
    await this.page.route('**/auth/token', async (route) => {
      const headers = { ...route.request().headers(), authorization: `Basic ${Buffer.from(key).toString('base64')}` };
      const response = await route.fetch({ headers, postData: JSON.stringify({ ...route.request().postDataJSON(), role }) });
      await route.fulfill({ response });
    });
  }

  /** Through the link that joins by itself. */
  async joins(origin, room, name) {
    const joins = this.joined.length;
    await this.page.goto(`${origin}/?${new URLSearchParams({ room, name, autojoin: '1' })}`);
    await until(`${name} joins ${room}`, () => this.joined.length > joins);
  }

  /** Through the lobby, with the camera switched off there. */
  async joinsDark(origin, room, name) {
    await this.page.goto(`${origin}/?${new URLSearchParams({ room, name })}`);
    await this.page.locator('.lobby[data-video]').waitFor();
    await this.page.click('.lobby [data-toggle=video]');
    await this.page.click('#join-button');
    await until(`${name} joins ${room}`, () => this.joined.length > 0);
  }

  /** @param {'audio' | 'video'} kind */
  toggles(kind) {
    return this.page.click(`.toolbar [data-toggle=${kind}]`);
  }

  /** The same page once more in another tab, which begins with a copy of this one's sessionStorage. */
  async duplicates() {
    const [page] = await Promise.all([this.page.waitForEvent('popup'), this.page.evaluate(() => void open(location.href))]);
    const twin = new Person(page);
    await until('the other tab has joined', () => twin.joined.length > 0);
    return twin;
  }

  async reloads() {
    const joins = this.joined.length;
    await this.page.reload();
    await until('the page has joined again', () => this.joined.length > joins);
  }

  traffic() {
    return this.page.evaluate(traffic);
  }

  /** Exactly so many connections, each with pictures that go on being decoded and sound that arrives. */
  async receives(others) {
    const before = new Map((await this.traffic()).map(({ id, pictures }) => [id, pictures]));
    await until(`${others} connections bring new pictures and sound`, async () => {
      const now = await this.traffic();
      return (now.length === others && now.every(({ id, pictures, sound }) => pictures > (before.get(id) ?? 0) + 2 && sound > 0)) || now;
    });
  }

  /** Exactly so many connections, each with sound that goes on. */
  async hears(others) {
    const before = new Map((await this.traffic()).map(({ id, sound }) => [id, sound]));
    await until(`${others} connections bring new sound`, async () => {
      const now = await this.traffic();
      return (now.length === others && now.every(({ id, sound }) => sound > (before.get(id) ?? 0) + 10)) || now;
    });
  }

  /** Whether no connection brings anything new for a while. @param {number} ms */
  async hearsNothing(ms) {
    const sum = async () => (await this.traffic()).reduce((total, { pictures, sound }) => total + pictures + sound, 0);
    const before = await sum();
    await pause(ms);
    return (await sum()) - before === 0;
  }

  /** On every connection something new arrives, all the time. @param {number} ms */
  async hearsFor(ms) {
    const end = Date.now() + ms;
    while (Date.now() < end) await this.hears((await this.traffic()).length);
  }

  /** Receives so many others, and shows them. */
  async seesAndHears(others) {
    await this.receives(others);
    await until(`${others} tiles show a picture`, async () => {
      const shown = await this.page.locator('.tile[data-peer-id][data-video]').count();
      return (shown === others && (await this.names()).length === others) || `${shown} of ${await this.names()}`;
    });
  }

  /** The others, as the tiles on the stage name them. */
  async names() {
    return (await this.page.locator('.tile[data-peer-id]:not([hidden]) .tile-name span').allTextContents()).sort();
  }

  async sees(...names) {
    await until(`tiles of ${names}`, async () => String(await this.names()) === String(names.sort()) || (await this.names()));
  }

  /** The page says this to a person who looks, not only in its source. */
  async reads(selector, pattern) {
    await until(`${selector} says ${pattern}`, async () => {
      const place = this.page.locator(selector);
      return ((await place.isVisible()) && pattern.test(await place.innerText())) || place.innerText();
    });
  }
}

/** Everybody sees and hears everybody: n people, n(n-1) directions. */
export const allSeeAll = (...people) => Promise.all(people.map((person) => person.seesAndHears(people.length - 1)));
