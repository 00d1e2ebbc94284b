// A browser on a network of its own, which can change: the device leaves one network and is on another
// one at once, with another address and another route. Each network is a namespace with a real
// interface; a third namespace routes between the device and the machine of the test.

import { createServer, connect } from 'node:net';
import { NetworkPlace } from './network-place.mjs';

/** The machine of the test, with the server and the other browser. */
const HOME = '10.98.0.1';
const HOME_ROUTER = '10.98.0.254';

/** Network → the address of the device and of the router in it. */
const NETWORKS = { wifi: ['10.98.1.2', '10.98.1.1'], mobile: ['10.98.2.2', '10.98.2.1'] };

export class TwoNetworks {
  #network = 'wifi';
  #device;
  #site;

  /** @param {import('./servers.mjs').TestSite} site */
  static async create(site) {
    const networks = new TwoNetworks();
    const [home, router, device] = [new NetworkPlace(), await NetworkPlace.create(site, 'router'), await NetworkPlace.create(site, 'device')];
    networks.#site = site;
    networks.#device = device;
    router.forward(true);
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
    return this.#device.writeStarter(this.#site, 'on-device.sh', program);
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
