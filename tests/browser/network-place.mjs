// A place in a network of the test: the machine of the test, or a namespace with interfaces of its own.
// Needs root, and a network namespace for the test alone.

import { execFileSync } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './person.mjs';

export class NetworkPlace {
  /** What to write before a command that runs there. */
  #prefix = [];
  #pid = process.pid;

  /** @param {import('./servers.mjs').TestSite} site @param {string} name */
  static async create(site, name) {
    const place = new NetworkPlace();
    // A namespace lives as long as a process in it.
    const { pid } = site.startProcess(name, 'unshare', ['--net', 'sleep', 'infinity']);
    const namespace = `/proc/${pid}/ns/net`;
    await until(`${name} has a namespace`, () => readlinkSync(namespace) !== readlinkSync('/proc/self/ns/net'));
    place.#prefix = ['nsenter', `--net=${namespace}`];
    place.#pid = pid;
    place.ip('link', 'set', 'lo', 'up');
    return place;
  }

  run(...command) {
    const [program, ...args] = [...this.#prefix, ...command];
    return execFileSync(program, args, { stdio: 'pipe', encoding: 'utf8' });
  }

  ip(...args) {
    return this.run('ip', ...args);
  }

  /** Connects both places with a cable, whose ends have this name. @param {NetworkPlace} other @param {string} name */
  connect(other, name) {
    this.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', name, 'netns', `${other.#pid}`);
  }

  /** Gives an interface its address and a default route. @param {string} name @param {string} address @param {string} [router] */
  setUp(name, address, router) {
    // Without an IPv6 address, which would be one more change of the network a second later.
    this.ip('link', 'set', name, 'addrgenmode', 'none');
    this.ip('addr', 'add', `${address}/24`, 'dev', name);
    this.ip('link', 'set', name, 'up');
    if (router) this.ip('route', 'replace', 'default', 'via', router, 'dev', name);
  }

  /** Lets this place forward between its networks, or not. @param {boolean} on */
  forward(on) {
    this.run('sh', '-c', `echo ${on ? 1 : 0} > /proc/sys/net/ipv4/ip_forward`);
  }

  /**
   * Writes a program that starts this program here. Returns its path.
   *
   * @param {import('./servers.mjs').TestSite} site
   * @param {string} name of the file
   * @param {string} program
   */
  writeStarter(site, name, program) {
    const file = join(site.dir, name);
    writeFileSync(file, `#!/bin/sh\nexec ${this.#prefix.join(' ')} ${program} "$@"\n`, { mode: 0o755 });
    return file;
  }
}
