// A proxy before Signalbox that behaves as badly as real ones, and a web site on another origin whose
// pages use the client through this proxy.

import { readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { repo } from './servers.mjs';

const CLIENT = process.env.SIGNALBOX_CLIENT_SRC ?? join(repo, 'clients/js/src');
const HTML = '<!doctype html><title>a proxy</title>';

async function listen(site, server) {
  const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  site.onClose(() => {
    server.closeAllConnections();
    server.close();
  });
  return port;
}

/** Starts the web site: an empty page, and the client under `/client/`. Returns its origin. */
export async function startPages(site) {
  const server = createServer(({ url }, response) => {
    const [, name] = /^\/client\/([\w-]+\.js)$/.exec(url) ?? [];
    const [type, body] = name ? ['text/javascript', readFileSync(join(CLIENT, name))] : ['text/html', '<!doctype html><title>a page</title>'];
    response.writeHead(200, { 'Content-Type': type }).end(body);
  });
  return `http://localhost:${await listen(site, server)}`;
}

export class Gate {
  /**
   * What happens to `/ws/validate`: `pass`, or the way in which its answer becomes unreadable.
   *
   * @type {'pass' | 'no answer' | 'no CORS headers' | '404' | '200 with HTML' | '502'}
   */
  verdicts = 'pass';
  /** The paths at which the proxy answers in place of the server: with 404 and HTML. @type {RegExp | undefined} */
  blocked;
  /** `open`, or what happens to each connection: `closed` at once, or `silent` for ever. */
  state = 'open';
  /** How long the answer to an upgrade takes longer than it should. */
  upgradeDelayMs = 0;
  /** Method, path and query of all requests, as the log of a proxy has them. */
  log = [];
  #upstreamPort;
  #sockets = new Set();

  static async start(site, upstreamPort) {
    const gate = new Gate();
    gate.#upstreamPort = upstreamPort;
    const server = createServer((request, response) => gate.#onRequest(request, response));
    server.on('upgrade', (request, socket, head) => gate.#onUpgrade(request, socket, head));
    gate.origin = `http://localhost:${await listen(site, server)}`;
    site.onClose(() => gate.cut());
    return gate;
  }

  /** Breaks all connections and refuses new ones. */
  cut() {
    this.state = 'closed';
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Loses all bytes from now on; connections stay open. */
  silence() {
    this.state = 'silent';
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.resume();
    }
  }

  /** Lets new connections through; silent ones stay silent. */
  restore() {
    this.state = 'open';
  }

  #admits(socket, { method, url }) {
    this.log.push(`${method} ${url}`);
    if (this.state === 'closed') socket.destroy();
    return this.state === 'open';
  }

  #onRequest(request, response) {
    const { method, url: path, headers } = request;
    if (!this.#admits(request.socket, request)) return;
    if (this.blocked?.test(path)) return void response.writeHead(404, { 'Content-Type': 'text/html' }).end(HTML);
    const verdicts = path.startsWith('/ws/validate') ? this.verdicts : 'pass';
    if (verdicts === 'no answer') return void response.destroy();
    if (verdicts === '404' || verdicts === '502') return void response.writeHead(Number(verdicts), { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Headers': '*, Authorization' }).end(HTML);
    if (verdicts === '200 with HTML') return void response.writeHead(200, { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Headers': '*, Authorization' }).end(HTML);
    const forwarded = httpRequest({ host: '127.0.0.1', port: this.#upstreamPort, method, path, headers }, (upstream) => {
      const kept = Object.entries(upstream.headers).filter(([name]) => verdicts === 'pass' || !name.startsWith('access-control-'));
      response.writeHead(upstream.statusCode, Object.fromEntries(kept));
      upstream.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    request.pipe(forwarded);
  }

  #onUpgrade(request, client, head) {
    if (!this.#admits(client, request)) return;
    const { method, url, rawHeaders } = request;
    if (this.blocked?.test(url)) return void client.end(`HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: ${HTML.length}\r\n\r\n${HTML}`);
    const upstream = connect(this.#upstreamPort, '127.0.0.1');
    const headers = rawHeaders.map((text, index) => text + (index % 2 ? '\r\n' : ': ')).join('');
    upstream.write(`${method} ${url} HTTP/1.1\r\n${headers}\r\n`);
    upstream.write(head);
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      this.#sockets.add(from);
      from.on('error', () => {});
      from.on('close', () => this.#sockets.delete(from) && to.destroy());
    }
    client.pipe(upstream);
    setTimeout(() => upstream.pipe(client), this.upgradeDelayMs);
  }
}
