// What the browsers talk to: the server in one process, or the whole deployment behind its edge.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Site, freePort, repo } from '../edge/harness.mjs';
import { until } from './people.mjs';

export { Site, repo };

const bin = process.env.SIGNALBOX_BIN_DIR ?? join(repo, 'target/debug');

/** `signalbox` on a port that it keeps over `kill` and `start`; the site stops it at last. */
export class Embedded {
  #site;
  #settings;
  #child;

  static async start(site, settings = {}) {
    const server = new Embedded();
    server.#site = site;
    server.#settings = settings;
    server.port = await freePort();
    server.origin = `http://localhost:${server.port}`;
    await server.start();
    return server;
  }

  async start() {
    const settings = { SIGNALBOX__LOG__FILTER: 'debug', ...this.#settings };
    this.#child = this.#site.start('signalbox', join(bin, 'signalbox'), ['--listen', `127.0.0.1:${this.port}`], settings);
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

/** auth-service, two signal-services and Redis behind nginx, as docker-compose.yml wires them, with guests on. */
export async function deployment(site) {
  const redis = await site.redis();
  const [auth, ...nodes] = await Promise.all([
    site.service('auth-service', 'auth', redis, { SIGNALBOX__AUTH__GUESTS: 'true' }),
    site.service('signal-service', 'signal', redis),
    site.service('signal-service', 'signal', redis),
  ]);
  const edge = await site.edge({ signal: nodes.map(({ port }) => port), auth: [auth.port] });
  return { edge, auth, nodes, origin: `https://localhost:${edge.tls}` };
}
