// The servers of the browser tests: one process, or the complete deployment behind its edge.

import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { TestSite, bin, freePort, repo } from '../edge/harness.mjs';
import { until } from './person.mjs';

export { TestSite, repo };

/** `signalbox` with a port that stays the same after `kill` and `start`; the site stops it. */
export class EmbeddedServer {
  #site;
  #settings;
  #flags;
  #address;
  #child;

  /** @param {string} [address] where it listens */
  static async start(site, settings = {}, flags = [], address = '127.0.0.1') {
    const server = new EmbeddedServer();
    server.#address = address;
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
    this.#child = this.#site.startProcess('signalbox', join(bin, 'signalbox'), ['--listen', `${this.#address}:${this.port}`, ...this.#flags], settings);
    const child = this.#child;
    await until('signalbox answers', async () => {
      if (child.failure || child.exitCode !== null) return readFileSync(child.log, 'utf8').slice(-2000);
      return (await fetch(`http://127.0.0.1:${this.port}/`)).ok;
    });
  }

  /** What the process has printed and logged. */
  logText() {
    return readFileSync(this.#child.log, 'utf8');
  }

  /** Ends the process without a drain. */
  async kill() {
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await exited;
  }
}

/**
 * Starts auth-service, signal-services and Redis behind nginx as in docker-compose.yml, with guests
 * allowed.
 *
 * @param {{ nodes?: number, settings?: Record<string, string> }} [options] `settings`: for the
 *   signal-services
 */
export async function startDeployment(site, { nodes: count = 2, settings = {} } = {}) {
  const store = await site.startStore();
  const [auth, ...nodes] = await Promise.all([
    site.startService('auth-service', 'auth', store.port, { SIGNALBOX__AUTH__GUESTS: 'true' }),
    ...Array.from({ length: count }, () => site.startService('signal-service', 'signal', store.port, settings)),
  ]);
  const edge = await site.startEdge({ signal: nodes.map(({ port }) => port), auth: [auth.port] });
  return { edge, auth, nodes, store, origin: `https://localhost:${edge.tls}` };
}

/**
 * Waits until all services are ready; they admit no new peer right after a failure of the store.
 */
export async function waitUntilReady({ auth, nodes }) {
  const isReady = async ({ port }) => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok;
  await until('everything is ready', async () => (await Promise.all([auth, ...nodes].map(isReady))).every(Boolean));
}

/** A TCP proxy between one person and the edge, which can break all connections. */
export class TcpProxy {
  #port;
  #open = true;
  #sockets = new Set();

  /** @param {string} origin the target of the proxy */
  static async start(origin, site) {
    const proxy = new TcpProxy();
    proxy.#port = Number(new URL(origin).port);
    const server = createServer((client) => proxy.#forward(client));
    const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
    proxy.origin = `https://localhost:${port}`;
    site.onClose(() => {
      proxy.cut();
      server.close();
    });
    return proxy;
  }

  /** Breaks all connections and refuses new ones. */
  cut() {
    this.#open = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  restore() {
    this.#open = true;
  }

  #forward(client) {
    if (!this.#open) return client.destroy();
    const upstream = connect(this.#port, '127.0.0.1');
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket) && other.destroy());
      socket.pipe(other);
    }
  }
}
