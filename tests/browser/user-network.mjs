// Networks of users: each has its own addresses, and the machine of the test is its router. Two such
// networks have no way to each other, until the router forwards between them. Needs root, and a network
// namespace for the test alone.

import { chromium } from 'playwright-core';
import { CHROMIUM } from './any-browser.mjs';
import { NetworkPlace } from './network-place.mjs';
import { CHROMIUM_FLAGS } from './person.mjs';

/** The servers of the test listen here; each network has a way to this address. */
export const SERVER = '10.99.0.1';

/** A second address of the same machine. */
export const OTHER_SERVER = '10.99.0.2';

/** The machine of the test, which forwards between the networks of users, or not. */
export const router = new NetworkPlace();

/** Whether the test may change its network: it is alone there. */
export function ownsNetwork() {
  try {
    return router.ip('route', 'show', 'default') === '' && router.ip('addr', 'add', `${SERVER}/32`, 'dev', 'lo') === '' && router.ip('addr', 'add', `${OTHER_SERVER}/32`, 'dev', 'lo') === '';
  } catch {
    return false;
  }
}

export class UserNetwork {
  #place;
  #number;

  /** @param {import('./servers.mjs').TestSite} site @param {number} number 1, 2, … */
  static async create(site, number) {
    const network = new UserNetwork();
    network.#number = number;
    network.#place = await NetworkPlace.create(site, `user${number}`);
    router.connect(network.#place, `user${number}`);
    router.setUp(`user${number}`, `10.99.${number}.1`);
    network.#place.setUp(`user${number}`, `10.99.${number}.2`, `10.99.${number}.1`);
    return network;
  }

  /** UDP gets lost on the way, without an answer. TCP does not. */
  dropUdp() {
    const [device, nowhere] = [`user${this.#number}`, `10.99.${this.#number}.99`];
    this.#place.ip('neigh', 'add', nowhere, 'lladdr', '02:00:00:00:00:99', 'dev', device, 'nud', 'permanent');
    this.#place.ip('route', 'add', 'default', 'via', nowhere, 'dev', device, 'table', '50');
    this.#place.ip('rule', 'add', 'pref', '10', 'ipproto', 'udp', 'lookup', '50');
  }

  /**
   * Starts Chromium in this network. Returns a function that opens a page.
   *
   * @param {import('./servers.mjs').TestSite} site
   * @param {string[]} [flags]
   */
  async launchChromium(site, flags = []) {
    // The addresses of this file are not those that the other tests know.
    const known = CHROMIUM_FLAGS.filter((flag) => !flag.startsWith('--host-resolver-rules'));
    const args = [...known, `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${SERVER}`, ...flags];
    const program = this.#place.writeStarter(site, `chromium-${this.#number}`, CHROMIUM);
    const browser = await chromium.launch({ executablePath: program, headless: true, args });
    site.onClose(() => browser.close());
    return async () => (await browser.newContext()).newPage();
  }
}
