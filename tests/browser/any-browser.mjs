// Chromium and Firefox with the same few methods, for tests that both must pass.

import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { CHROMIUM_FLAGS, until } from './person.mjs';

export const BROWSERS = ['chromium', 'firefox'];

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

const FIREFOX_PREFERENCES = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.gmp-manager.updateEnabled': false,
  'network.manage-offline-status': false,
  'network.dns.disablePrefetch': true,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'app.normandy.enabled': false,
};

/**
 * Firefox gathers no candidates on an interface without a default route, so a network namespace with
 * loopback alone gets one more interface, which leads nowhere. Returns a function that removes it.
 */
function addRoute() {
  const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe', encoding: 'utf8' });
  if (ip('route', 'show', 'default')) return () => {};
  ip('link', 'add', 'route0', 'type', 'veth', 'peer', 'name', 'route1');
  ip('addr', 'add', '10.99.0.1/24', 'dev', 'route0');
  // Without an IPv6 address, which would be one more change of the network a second later.
  for (const name of ['route0', 'route1']) ip('link', 'set', name, 'addrgenmode', 'none', 'up');
  ip('route', 'add', 'default', 'via', '10.99.0.254', 'dev', 'route0');
  return () => ip('link', 'del', 'route0');
}

const LAUNCH = {
  chromium: async ({ executablePath = CHROMIUM, args = [] }) => {
    const browser = await chromium.launch({ executablePath, headless: true, args: [...CHROMIUM_FLAGS, ...args] });
    const context = await browser.newContext({ permissions: ['camera', 'microphone'], ignoreHTTPSErrors: true });
    return { newPage: () => context.newPage(), close: () => browser.close() };
  },
  firefox: async () => {
    const removeRoute = addRoute();
    const executablePath = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
    const browser = await puppeteer.launch({ browser: 'firefox', executablePath, headless: true, acceptInsecureCerts: true, extraPrefsFirefox: FIREFOX_PREFERENCES });
    return { newPage: () => browser.newPage(), close: () => browser.close().finally(removeRoute) };
  },
};

/** One browser. Its pages report their errors in `problems`. */
export class AnyBrowser {
  problems = [];
  #browser;
  #pages = [];

  /**
   * @param {string} name one of {@link BROWSERS}
   * @param {{ executablePath?: string, args?: string[] }} [options] of Chromium
   */
  static async launch(name, options = {}) {
    const any = new AnyBrowser();
    any.#browser = await LAUNCH[name](options);
    return any;
  }

  async open(url) {
    const page = await this.#browser.newPage();
    this.#pages.push(page);
    page.on('pageerror', (error) => this.problems.push(String(error)));
    await page.goto(url);
    return page;
  }

  async closePages() {
    await Promise.all(this.#pages.splice(0).map((page) => page.close()));
    return this.problems.splice(0);
  }

  close() {
    return this.#browser?.close();
  }
}

/** Waits until this number of videos plays on the page, and no other. */
export const playsVideos = (page, count) =>
  until(`${count} videos play`, async () => {
    const now = await page.evaluate(() => [...document.querySelectorAll('video')].map(({ videoWidth, currentTime }) => videoWidth > 0 && currentTime > 0));
    return (now.length === count && now.every(Boolean)) || now;
  });
