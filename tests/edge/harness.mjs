// Starts what stands behind and in the edge, on free ports, and stops it again by process id.
//
// nginx runs the files that docker-compose.yml mounts (deploy/nginx); only the paths under /tmp are moved, because a test
// has no container of its own. Logs go to $SIGNALBOX_TEST_LOGS, which tests/hygiene.sh reads afterwards.

import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import https from 'node:https';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

export const repo = join(dirname(fileURLToPath(import.meta.url)), '../..');
/** What the operator's key may do, as docker-compose.yml has it. */
const SCOPES = Object.fromEntries([readFileSync(join(repo, 'docker-compose.yml'), 'utf8').match(/(\w+OPERATOR__SCOPES): (.*)/).slice(1)]);
export const bin = process.env.SIGNALBOX_BIN_DIR ?? join(repo, 'target/debug');
const deadline = 10_000;

/** A place of its own for a test file: processes, folders, logs. `close` undoes all of it. */
export class Site {
  dir = mkdtempSync(join(tmpdir(), 'signalbox-edge-'));
  logs = process.env.SIGNALBOX_TEST_LOGS ?? join(this.dir, 'logs');
  #undo = [() => rmSync(this.dir, { recursive: true, force: true })];
  #started = 0;

  constructor() {
    mkdirSync(this.logs, { recursive: true });
    chmodSync(this.dir, 0o755);
    this.#undo.push(() => Promise.all([...this.#processes].map((child) => stop(child))));
    this.secrets = join(this.dir, 'secrets');
    execFileSync(join(repo, 'deploy/make-secrets.sh'), [this.secrets]);
  }

  #processes = new Set();

  async close() {
    for (const undo of this.#undo.reverse()) await undo();
    this.#undo = [];
  }

  /** Runs at `close`, last added first. */
  later(undo) {
    this.#undo.push(undo);
  }

  secret(name) {
    return readFileSync(join(this.secrets, name), 'utf8').trim();
  }

  /** Starts a program; what it writes goes to a log file. */
  start(name, command, args, env = {}) {
    const log = join(this.logs, `edge-${process.pid}-${++this.#started}-${name}.log`);
    const fd = openSync(log, 'a');
    const child = spawn(command, args, { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', fd, fd] });
    closeSync(fd);
    child.log = log;
    child.on('error', (error) => (child.failure = error));
    this.#processes.add(child);
    return child;
  }

  /** The store of docker-compose.yml; it comes back empty after `stop` and `start`. */
  async store() {
    const port = await freePort();
    return new Program(port, async () => {
      const child = this.start('redis', 'redis-server', [
        join(repo, 'deploy/redis/redis.conf'),
        ...['--aclfile', join(this.secrets, 'redis.acl'), '--bind', '127.0.0.1', '--port', `${port}`, '--dir', this.dir],
      ]);
      await listening(port, child);
      return child;
    }).start();
  }

  async redis() {
    return (await this.store()).port;
  }

  /** Starts a service on a free port and waits until it is ready. */
  async service(binary, user, redisPort, settings = {}) {
    const port = await freePort();
    const url = join(this.dir, `redis-url-${port}`);
    writeFileSync(url, this.secret(`redis_url_${user}`).replace('@redis:6379', `@127.0.0.1:${redisPort}`), { mode: 0o600 });
    const args = ['--listen', `127.0.0.1:${port}`, '--config', join(repo, 'deploy/signalbox.toml')];
    const env = {
      AUTH_SECRET_FILE: join(this.secrets, 'auth_secret'),
      AUTH_SECRET_PREVIOUS_FILE: join(this.secrets, 'auth_secret_previous'),
      ...(user === 'auth' ? { SIGNALBOX_API_KEYS_FILE: join(this.secrets, 'api_keys'), ...SCOPES } : this.#sessionKeys()),
      REDIS_URL_FILE: url,
      SIGNALBOX__LOG__FILTER: 'debug',
      ...settings,
    };
    return new Program(port, async () => {
      const child = this.start(`${binary}-${port}`, join(bin, binary), args, env);
      await eventually(`${binary} is ready`, child, async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok);
      return child;
    }).start();
  }

  #sessionKeys() {
    return {
      SIGNALBOX_SESSION_KEY_FILE: join(this.secrets, 'session_key'),
      SIGNALBOX_SESSION_KEY_PREVIOUS_FILE: join(this.secrets, 'session_key_previous'),
    };
  }

  /** Starts nginx with the shipped files. `limits` are EDGE_* variables; the rest is generous, so that only a test of limits meets one. */
  async edge({ signal, auth, limits = {} }) {
    const [plain, tls] = [await freePort(), await freePort()];
    const dir = mkdtempSync(join(this.dir, 'nginx-'));
    const accessLog = join(this.logs, `edge-${process.pid}-${tls}-access.log`);
    const env = {
      EDGE_HTTP_LISTEN: `127.0.0.1:${plain}`,
      EDGE_HTTPS_LISTEN: `[::]:${tls} ipv6only=off`,
      EDGE_CERT: join(this.secrets, 'edge.crt'),
      EDGE_KEY: join(this.secrets, 'edge.key'),
      EDGE_ACCESS_LOG: accessLog,
      EDGE_PAGE: join(repo, 'web/call'),
      EDGE_CLIENT: join(repo, 'clients/js/src'),
      EDGE_SIGNAL_SERVERS: servers(signal),
      EDGE_AUTH_SERVERS: servers(auth),
      EDGE_WS_PER_MINUTE: '60000',
      EDGE_WS_BURST: '1000',
      EDGE_RESUMES_PER_MINUTE: '60000',
      EDGE_RESUMES_BURST: '1000',
      EDGE_AUTH_PER_MINUTE: '60000',
      EDGE_AUTH_BURST: '1000',
      EDGE_SOCKETS_PER_CLIENT: '1000',
      ...limits,
    };
    const template = readFileSync(join(repo, 'deploy/nginx/edge.conf.template'));
    const names = Object.keys(env).map((name) => `$${name}`).join(' ');
    const site = execFileSync('envsubst', [names], { input: template, env: { PATH: process.env.PATH, ...env } });
    writeFileSync(join(dir, 'edge.conf'), site);
    const main = readFileSync(join(repo, 'deploy/nginx/nginx.conf'), 'utf8');
    writeFileSync(join(dir, 'nginx.conf'), main.replace(/\/tmp(?=\/)/g, dir));

    // As root nginx would drop to a user that may not read this checkout.
    const own = process.getuid() === 0 ? 'daemon off; user root;' : 'daemon off;';
    const child = this.start('nginx', 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr', '-g', own]);
    await listening(tls, child);
    return new Edge({ plain, tls, child, accessLog, ca: this.secret('edge.crt') });
  }

  /** A server in this process, where a test must see what the edge sends or choose what it gets. */
  async upstream(handle) {
    const server = createServer(handle);
    server.on('upgrade', (request, socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n');
      const offered = request.headers['sec-websocket-protocol']?.split(/, */)[0];
      if (offered) socket.write(`Sec-WebSocket-Protocol: ${offered}\r\n`);
      socket.write(`Sec-WebSocket-Accept: ${acceptance(request)}\r\n\r\n`);
    });
    const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
    this.later(() => {
      server.closeAllConnections();
      server.close();
    });
    return { port };
  }
}

/** A running program that keeps its port over `stop`, `kill` and `start`; each run has a log of its own. */
class Program {
  /** Of every run, the last one last. */
  logs = [];
  #begin;

  constructor(port, begin) {
    this.port = port;
    this.#begin = begin;
  }

  async start() {
    this.child = await this.#begin();
    this.logs.push(this.child.log);
    return this;
  }

  /** What a signaling node calls itself; another in every run. */
  get node() {
    return /event="node_started" node=(\w+)/.exec(readFileSync(this.child.log, 'utf8'))?.[1];
  }

  /** With a goodbye. */
  stop() {
    return stop(this.child);
  }

  /** Without one. */
  async kill() {
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await gone;
  }

  /** It keeps its connections and answers nothing, until `goOn`. */
  freeze() {
    this.child.kill('SIGSTOP');
  }

  goOn() {
    this.child.kill('SIGCONT');
  }
}

/** A running nginx and how a client meets it. */
class Edge {
  constructor(fields) {
    Object.assign(this, fields);
  }

  /** One HTTPS request on a connection of its own; the certificate is checked. */
  request(path, { method = 'GET', headers = {}, body, host = 'localhost', ...tls } = {}) {
    return new Promise((resolve, reject) => {
      const options = { host, port: this.tls, path, method, headers, ca: this.ca, agent: false, timeout: deadline, ...tls };
      const request = https.request(options, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part));
        response.on('end', () => {
          const { statusCode: status, headers: answered } = response;
          resolve({ status, headers: answered, text, json: () => JSON.parse(text) });
        });
      });
      request.on('timeout', () => request.destroy(new Error(`no answer to ${method} ${path.split('?')[0]}`)));
      request.on('error', reject);
      request.end(body);
    });
  }

  /** Opens a WebSocket: `{socket, next}`, or `{status, json}` where there was no upgrade. */
  open(path, { protocols = [], headers = {}, host = 'localhost', ...tls } = {}) {
    const shown = host.includes(':') ? `[${host}]` : host;
    const socket = new WebSocket(`wss://${shown}:${this.tls}${path}`, protocols, { headers, ca: this.ca, handshakeTimeout: deadline, ...tls });
    const frames = [];
    const waiting = [];
    socket.on('message', (data) => {
      const frame = JSON.parse(data);
      const wanted = waiting.findIndex(({ type }) => type === frame.type);
      if (wanted >= 0) waiting.splice(wanted, 1)[0].resolve(frame);
      else frames.push(frame);
    });
    const next = (type) => {
      const here = frames.findIndex((frame) => frame.type === type);
      if (here >= 0) return frames.splice(here, 1)[0];
      return within(`a frame of type ${type}`, new Promise((resolve) => waiting.push({ type, resolve })));
    };
    return new Promise((resolve, reject) => {
      socket.on('open', () => resolve({ status: 101, socket, next, protocol: socket.protocol }));
      socket.on('unexpected-response', (_, response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part));
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, json: () => JSON.parse(text) }));
      });
      socket.on('error', reject);
    });
  }

  /** Everything nginx has written. */
  written() {
    return [this.accessLog, this.child.log].map((file) => (existsSync(file) ? readFileSync(file, 'utf8') : '')).join('');
  }

  accesses() {
    const lines = readFileSync(this.accessLog, 'utf8').trim().split('\n');
    return lines.map((line) => JSON.parse(line));
  }
}

const servers = (ports) => ports.map((port) => `server ${Number(port) ? `127.0.0.1:${port}` : port} max_fails=1 fail_timeout=1s;`).join(' ');

function acceptance(request) {
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  return createHash('sha1').update(key).digest('base64');
}

export async function freePort() {
  const server = createTcpServer();
  const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Ends a process and waits until it is gone. */
export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null || !child.pid) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  // Later than timing.drain: who is ended here did not end by itself.
  const slow = setTimeout(() => child.kill('SIGKILL'), 12_000);
  await gone;
  clearTimeout(slow);
}

const listening = (port, child) =>
  eventually(`port ${port} listens`, child, () =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(socket.destroy()));
      socket.on('error', reject);
    }));

/** Asks until the answer is true, the process has ended or the time is over. */
async function eventually(what, child, holds) {
  const end = Date.now() + deadline;
  for (;;) {
    const ended = child.failure ?? (child.exitCode ?? child.signalCode) !== null;
    if (ended) throw new Error(`${what}: it ended before that:\n${readFileSync(child.log, 'utf8').slice(-2000)}`);
    if (await Promise.resolve().then(holds).catch(() => false)) return;
    if (Date.now() > end) throw new Error(`${what}: not in ${deadline} ms:\n${readFileSync(child.log, 'utf8').slice(-2000)}`);
    await sleep(20);
  }
}

export function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what}: not in ${deadline} ms`)), deadline)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
