// Networks of users: each has its own addresses, and the machine of the test is its router. Two such
// networks have no way to each other, until the router forwards between them. Needs root, and a network
// namespace for the test alone.

import { execFileSync, spawn } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { CHROMIUM_FLAGS, until } from './person.mjs';

/** The servers of the test listen here; each network has a way to this address. */
export const SERVER = '10.99.0.1';

/** A second address of the same machine. */
export const OTHER_SERVER = '10.99.0.2';

const run = (command, ...args) => execFileSync(command, args, { stdio: 'pipe', encoding: 'utf8' });
const ip = (...args) => run('ip', ...args);

/** Whether the test may change its network: it is alone there. */
export function ownsNetwork() {
  try {
    return ip('route', 'show', 'default') === '' && ip('addr', 'add', `${SERVER}/32`, 'dev', 'lo') === '' && ip('addr', 'add', `${OTHER_SERVER}/32`, 'dev', 'lo') === '';
  } catch {
    return false;
  }
}

/** Lets the router forward between the networks of users, or not. @param {boolean} on */
export function forwardBetweenNetworks(on) {
  writeFileSync('/proc/sys/net/ipv4/ip_forward', on ? '1' : '0');
}

export class UserNetwork {
  #child;
  #number;

  /** @param {import('./servers.mjs').TestSite} site @param {number} number 1, 2, … */
  static async create(site, number) {
    const network = new UserNetwork();
    network.#number = number;
    // A namespace lives as long as a process in it.
    network.#child = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' });
    site.onClose(() => network.#child.kill());
    const { pid } = network.#child;
    await until('the namespace is there', () => readlinkSync(`/proc/${pid}/ns/net`) !== readlinkSync('/proc/self/ns/net'));
    const [outside, inside] = [`router${number}`, `user${number}`];
    ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', String(pid));
    // Without an IPv6 address, which would be one more change of the network a second later.
    ip('link', 'set', outside, 'addrgenmode', 'none');
    ip('addr', 'add', `10.99.${number}.1/24`, 'dev', outside);
    ip('link', 'set', outside, 'up');
    network.#inside('ip', 'link', 'set', 'lo', 'up');
    network.#inside('ip', 'link', 'set', inside, 'addrgenmode', 'none');
    network.#inside('ip', 'addr', 'add', `10.99.${number}.2/24`, 'dev', inside);
    network.#inside('ip', 'link', 'set', inside, 'up');
    network.#inside('ip', 'route', 'add', 'default', 'via', `10.99.${number}.1`);
    return network;
  }

  #inside(command, ...args) {
    return run('nsenter', `--net=/proc/${this.#child.pid}/ns/net`, command, ...args);
  }

  /** UDP gets lost on the way, without an answer. TCP does not. */
  dropUdp() {
    const [device, nowhere] = [`user${this.#number}`, `10.99.${this.#number}.99`];
    this.#inside('ip', 'neigh', 'add', nowhere, 'lladdr', '02:00:00:00:00:99', 'dev', device, 'nud', 'permanent');
    this.#inside('ip', 'route', 'add', 'default', 'via', nowhere, 'dev', device, 'table', '50');
    this.#inside('ip', 'rule', 'add', 'pref', '10', 'ipproto', 'udp', 'lookup', '50');
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
    const program = join(site.dir, `chromium-${this.#number}`);
    writeFileSync(program, `#!/bin/sh\nexec nsenter --net=/proc/${this.#child.pid}/ns/net ${process.env.CHROMIUM ?? '/usr/bin/chromium'} "$@"\n`, { mode: 0o755 });
    const browser = await chromium.launch({ executablePath: program, headless: true, args });
    site.onClose(() => browser.close());
    return async () => (await browser.newContext()).newPage();
  }
}
