// A browser on a network of its own, which can change: the device leaves one network and is on another
// one at once, with another address and another route. Each network is a namespace with a real
// interface; a third namespace routes between the device and the machine of the test.

import { execFileSync } from 'node:child_process';
import { chmodSync, readlinkSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { join } from 'node:path';
import { until } from './person.mjs';

/** The machine of the test, with the server and the other browser. */
const HOME = '10.98.0.1';
const HOME_ROUTER = '10.98.0.254';

/** Network → the address of the device and of the router in it. */
const NETWORKS = { wifi: ['10.98.1.2', '10.98.1.1'], mobile: ['10.98.2.2', '10.98.2.1'] };

const run = (...command) => execFileSync(command[0], command.slice(1), { stdio: 'pipe', encoding: 'utf8' });

/** A place in the network: the machine of the test, or a namespace that a process holds open. */
class Place {
  /** What to write before a command that runs there. */
  prefix = [];

  /** @param {import('./servers.mjs').TestSite} site */
  static async create(site, name) {
    const place = new Place();
    const { pid } = site.startProcess(name, 'unshare', ['--net', 'sleep', 'infinity']);
    const namespace = `/proc/${pid}/ns/net`;
    await until(`${name} has a namespace`, () => readlinkSync(namespace) !== readlinkSync('/proc/self/ns/net'));
    place.prefix = ['nsenter', `--net=${namespace}`];
    place.pid = pid;
    place.ip('link', 'set', 'lo', 'up');
    return place;
  }

  ip(...args) {
    return run(...this.prefix, 'ip', ...args);
  }

  /** Connects both places with a cable, whose ends have this name. @param {Place} other */
  connect(other, name) {
    this.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', name, 'netns', `${other.pid}`);
  }

  /** Gives an interface its address and a default route. */
  setUp(name, address, router) {
    // Without an IPv6 address, which would be one more change of the network a second later.
    this.ip('link', 'set', name, 'addrgenmode', 'none');
    this.ip('addr', 'add', `${address}/24`, 'dev', name);
    this.ip('link', 'set', name, 'up');
    if (router) this.ip('route', 'replace', 'default', 'via', router, 'dev', name);
  }
}

export class TwoNetworks {
  #network = 'wifi';
  #device;
  #site;

  /** @param {import('./servers.mjs').TestSite} site */
  static async create(site) {
    const networks = new TwoNetworks();
    const [home, router, device] = [new Place(), await Place.create(site, 'router'), await Place.create(site, 'device')];
    networks.#site = site;
    networks.#device = device;
    run(...router.prefix, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    home.connect(router, 'home');
    site.onClose(() => home.ip('link', 'del', 'home'));
    router.setUp('home', HOME_ROUTER);
    home.setUp('home', HOME, HOME_ROUTER);
    for (const [name, [, address]] of Object.entries(NETWORKS)) {
      router.connect(device, name);
      router.setUp(name, address);
    }
    networks.#enter();
    return networks;
  }

  /** The address of the device now. */
  get address() {
    return NETWORKS[this.#network][0];
  }

  /** The device leaves its network, and is on the other one. */
  change() {
    this.#device.ip('link', 'set', this.#network, 'down');
    this.#device.ip('addr', 'flush', 'dev', this.#network);
    this.#network = this.#network === 'wifi' ? 'mobile' : 'wifi';
    this.#enter();
  }

  #enter() {
    this.#device.setUp(this.#network, ...NETWORKS[this.#network]);
  }

  /** Writes a program that starts this program on the device. @param {string} program */
  onDevice(program) {
    const file = join(this.#site.dir, 'on-device.sh');
    writeFileSync(file, `#!/bin/sh\nexec ${this.#device.prefix.join(' ')} ${program} "$@"\n`);
    chmodSync(file, 0o755);
    return file;
  }

  /**
   * Makes a port of this machine that only listens on loopback reachable for the device. Returns where.
   *
   * @param {number} port
   */
  async publish(port) {
    const sockets = new Set();
    const server = createServer((client) => {
      const upstream = connect(port, '127.0.0.1');
      for (const [socket, other] of [[client, upstream], [upstream, client]]) {
        sockets.add(socket);
        socket.on('error', () => {}).on('close', () => sockets.delete(socket) && other.destroy()).pipe(other);
      }
    });
    const published = await new Promise((resolve) => server.listen(0, HOME, () => resolve(server.address().port)));
    this.#site.onClose(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return `${HOME}:${published}`;
  }
}
