// What the browsers talk to: the server in one process, or the whole deployment behind its edge.

import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Site, bin, freePort, repo } from '../edge/harness.mjs';
import { until } from './people.mjs';

export { Site, repo };

/** `signalbox` on a port that it keeps over `kill` and `start`; the site stops it at last. */
export class Embedded {
  #site;
  #settings;
  #flags;
  #child;

  static async start(site, settings = {}, flags = []) {
    const server = new Embedded();
    server.#site = site;
    server.#settings = settings;
    server.#flags = flags;
    server.port = await freePort();
    server.origin = `http://localhost:${server.port}`;
    await server.start();
    return server;
  }

  async start() {
    const settings = { SIGNALBOX__LOG__FILTER: 'debug', ...this.#settings };
    this.#child = this.#site.start('signalbox', join(bin, 'signalbox'), ['--listen', `127.0.0.1:${this.port}`, ...this.#flags], settings);
    const child = this.#child;
    await until('signalbox answers', async () => {
      if (child.failure || child.exitCode !== null) return readFileSync(child.log, 'utf8').slice(-2000);
      return (await fetch(`http://127.0.0.1:${this.port}/`)).ok;
    });
  }

  /** Without a goodbye. */
  async kill() {
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/**
 * auth-service, signal-services and Redis behind nginx, as docker-compose.yml wires them, with guests on.
 *
 * @param {{ nodes?: number, settings?: Record<string, string> }} [options] `settings` of the signal-services
 */
export async function deployment(site, { nodes: count = 2, settings = {} } = {}) {
  const store = await site.store();
  const [auth, ...nodes] = await Promise.all([
    site.service('auth-service', 'auth', store.port, { SIGNALBOX__AUTH__GUESTS: 'true' }),
    ...Array.from({ length: count }, () => site.service('signal-service', 'signal', store.port, settings)),
  ]);
  const edge = await site.edge({ signal: nodes.map(({ port }) => port), auth: [auth.port] });
  return { edge, auth, nodes, store, origin: `https://localhost:${edge.tls}` };
}

/** Nobody new is let in for a moment after the store was away. */
export async function everythingIsReady({ auth, nodes }) {
  const isReady = async ({ port }) => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok;
  await until('everything is ready', async () => (await Promise.all([auth, ...nodes].map(isReady))).every(Boolean));
}

/** The cable between one person and the edge: TCP passed on as it is, until it is cut. */
export class Cable {
  #port;
  #whole = true;
  #sockets = new Set();

  /** @param {string} origin what is at the other end */
  static async to(origin, site) {
    const cable = new Cable();
    cable.#port = Number(new URL(origin).port);
    const server = createServer((near) => cable.#pass(near));
    const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
    cable.origin = `https://localhost:${port}`;
    site.later(() => {
      cable.cut();
      server.close();
    });
    return cable;
  }

  /** Every connection is lost, and none can be made. */
  cut() {
    this.#whole = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#whole = true;
  }

  #pass(near) {
    if (!this.#whole) return near.destroy();
    const far = connect(this.#port, '127.0.0.1');
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket) && other.destroy());
      socket.pipe(other);
    }
  }
}
