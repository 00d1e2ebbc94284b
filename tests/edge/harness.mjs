// Starts nginx, Redis and the services on free ports, and stops them by process id.
//
// nginx runs the files that docker-compose.yml mounts (deploy/nginx). Only the paths under /tmp
// differ, because a test has no container. Logs go to $SIGNALBOX_TEST_LOGS, which tests/hygiene.sh
// reads later.

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
/** The scopes of the operator key in docker-compose.yml. */
const SCOPES = Object.fromEntries([readFileSync(join(repo, 'docker-compose.yml'), 'utf8').match(/(\w+OPERATOR__SCOPES): (.*)/).slice(1)]);
export const bin = process.env.SIGNALBOX_BIN_DIR ?? join(repo, 'target/debug');
const DEADLINE_MS = 10_000;

/** Numbers the logs: several sites of one test file share a folder. */
let startedProcesses = 0;

/** The processes, folders and logs of one test file. `close` removes them. */
export class TestSite {
  dir = mkdtempSync(join(tmpdir(), 'signalbox-edge-'));
  logs = process.env.SIGNALBOX_TEST_LOGS ?? join(this.dir, 'logs');
  #closeActions = [() => rmSync(this.dir, { recursive: true, force: true })];

  constructor() {
    mkdirSync(this.logs, { recursive: true });
    chmodSync(this.dir, 0o755);
    this.#closeActions.push(() => Promise.all([...this.#processes].map((child) => stopProcess(child))));
    this.secrets = join(this.dir, 'secrets');
    execFileSync(join(repo, 'deploy/make-secrets.sh'), [this.secrets]);
  }

  #processes = new Set();

  async close() {
    for (const action of this.#closeActions.reverse()) await action();
    this.#closeActions = [];
  }

  /** Adds an action for `close`; the last one runs first. */
  onClose(action) {
    this.#closeActions.push(action);
  }

  secret(name) {
    return readFileSync(join(this.secrets, name), 'utf8').trim();
  }

  /** Starts a program with its output in a log file. */
  startProcess(name, command, args, env = {}) {
    const log = join(this.logs, `edge-${process.pid}-${(startedProcesses += 1)}-${name}.log`);
    const fd = openSync(log, 'a');
    const child = spawn(command, args, { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', fd, fd] });
    closeSync(fd);
    child.log = log;
    child.on('error', (error) => (child.failure = error));
    this.#processes.add(child);
    return child;
  }

  /** Starts the Redis of docker-compose.yml; it is empty after `stop` and `start`. */
  async startStore() {
    const port = await freePort();
    return new RestartableProcess(port, async () => {
      const child = this.startProcess('redis', 'redis-server', [
        join(repo, 'deploy/redis/redis.conf'),
        ...['--aclfile', join(this.secrets, 'redis.acl'), '--bind', '127.0.0.1', '--port', `${port}`, '--dir', this.dir],
      ]);
      await waitForPort(port, child);
      return child;
    }).start();
  }

  async startRedis() {
    return (await this.startStore()).port;
  }

  /** Starts a service on a free port and waits until it is ready. */
  async startService(binary, user, redisPort, settings = {}) {
    const [port, metricsPort] = [await freePort(), await freePort()];
    const url = join(this.dir, `redis-url-${port}`);
    writeFileSync(url, this.secret(`redis_url_${user}`).replace('@redis:6379', `@127.0.0.1:${redisPort}`), { mode: 0o600 });
    const args = ['--listen', `127.0.0.1:${port}`, '--config', join(repo, 'deploy/signalbox.toml')];
    const env = {
      AUTH_SECRET_FILE: join(this.secrets, 'auth_secret'),
      AUTH_SECRET_PREVIOUS_FILE: join(this.secrets, 'auth_secret_previous'),
      ...(user === 'auth' ? { SIGNALBOX_API_KEYS_FILE: join(this.secrets, 'api_keys'), ...SCOPES } : this.#sessionKeys()),
      REDIS_URL_FILE: url,
      SIGNALBOX__SERVER__METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
      SIGNALBOX__LOG__FILTER: 'debug',
      ...settings,
    };
    const service = new RestartableProcess(port, async () => {
      const child = this.startProcess(`${binary}-${port}`, join(bin, binary), args, env);
      await waitUntil(`${binary} is ready`, child, async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok);
      return child;
    });
    service.metricsPort = metricsPort;
    return service.start();
  }

  #sessionKeys() {
    return {
      SIGNALBOX_SESSION_KEY_FILE: join(this.secrets, 'session_key'),
      SIGNALBOX_SESSION_KEY_PREVIOUS_FILE: join(this.secrets, 'session_key_previous'),
    };
  }

  /**
   * Starts nginx with the shipped files. `limits` are EDGE_* variables; the default limits are
   * high.
   */
  async startEdge({ signal, auth, limits = {} }) {
    const [plain, tls] = [await freePort(), await freePort()];
    const dir = mkdtempSync(join(this.dir, 'nginx-'));
    const pages = join(dir, 'pages');
    execFileSync(join(bin, 'signalbox'), ['pages', pages]);
    const accessLog = join(this.logs, `edge-${process.pid}-${tls}-access.log`);
    const env = {
      EDGE_HTTP_LISTEN: `127.0.0.1:${plain}`,
      EDGE_HTTPS_LISTEN: `[::]:${tls} ipv6only=off`,
      EDGE_NAMES: 'localhost rtc.example',
      EDGE_CERT: join(this.secrets, 'edge.crt'),
      EDGE_KEY: join(this.secrets, 'edge.key'),
      EDGE_ACCESS_LOG: accessLog,
      EDGE_PAGE: pages,
      EDGE_CLIENT: join(pages, 'client'),
      EDGE_SIGNAL_SERVERS: serverLines(signal),
      EDGE_AUTH_SERVERS: serverLines(auth),
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

    // As root, nginx would switch to a user that cannot read this checkout.
    const directives = process.getuid() === 0 ? 'daemon off; user root;' : 'daemon off;';
    const child = this.startProcess('nginx', 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr', '-g', directives]);
    await waitForPort(tls, child);
    return new EdgeServer({ plain, tls, child, accessLog, ca: this.secret('edge.crt') });
  }

  /** Waits until a process listens on a TCP port. */
  waitForPort(port, child, deadlineMs) {
    return waitForPort(port, child, deadlineMs);
  }

  /** Starts a server in this process, for tests that read the requests or choose the answers. */
  async startUpstream(handle) {
    const server = createServer(handle);
    server.on('upgrade', (request, socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n');
      const subprotocol = request.headers['sec-websocket-protocol']?.split(/, */)[0];
      if (subprotocol) socket.write(`Sec-WebSocket-Protocol: ${subprotocol}\r\n`);
      socket.write(`Sec-WebSocket-Accept: ${acceptKey(request)}\r\n\r\n`);
    });
    const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
    this.onClose(() => {
      server.closeAllConnections();
      server.close();
    });
    return { port, onUpgrade: (action) => server.on('upgrade', action) };
  }
}

/**
 * A program with a port that stays the same after `stop`, `kill` and `start`; each run has a log.
 */
class RestartableProcess {
  /** The log files of all runs, in order. */
  logs = [];
  #launch;

  constructor(port, launch) {
    this.port = port;
    this.#launch = launch;
  }

  async start() {
    this.child = await this.#launch();
    this.logs.push(this.child.log);
    return this;
  }

  /** The id of a signaling node, which is new in each run. */
  get node() {
    return /event="node_started" node=(\w+)/.exec(readFileSync(this.child.log, 'utf8'))?.[1];
  }

  /** Ends the process with a drain. */
  stop() {
    return stopProcess(this.child);
  }

  /** Ends the process without a drain. */
  async kill() {
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await exited;
  }

  /** The process keeps its connections but does not answer, until `unfreeze`. */
  freeze() {
    this.child.kill('SIGSTOP');
  }

  unfreeze() {
    this.child.kill('SIGCONT');
  }
}

/** A running nginx, and requests to it. */
export class EdgeServer {
  constructor(fields) {
    Object.assign(this, fields);
  }

  /** Sends one HTTPS request on a new connection, and checks the certificate. */
  request(path, { method = 'GET', headers = {}, body, host = 'localhost', ...tls } = {}) {
    return new Promise((resolve, reject) => {
      const options = { host, port: this.tls, path, method, headers, ca: this.ca, agent: false, timeout: DEADLINE_MS, ...tls };
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

  /** Opens a WebSocket: returns `{socket, next}`, or `{status, json}` without an upgrade. */
  open(path, { protocols = [], headers = {}, host = 'localhost', ...tls } = {}) {
    const urlHost = host.includes(':') ? `[${host}]` : host;
    const socket = new WebSocket(`wss://${urlHost}:${this.tls}${path}`, protocols, { headers, ca: this.ca, handshakeTimeout: DEADLINE_MS, ...tls });
    const frames = [];
    const waiting = [];
    socket.on('message', (data) => {
      const frame = JSON.parse(data);
      const index = waiting.findIndex(({ type }) => type === frame.type);
      if (index >= 0) waiting.splice(index, 1)[0].resolve(frame);
      else frames.push(frame);
    });
    const next = (type) => {
      const index = frames.findIndex((frame) => frame.type === type);
      if (index >= 0) return frames.splice(index, 1)[0];
      return withDeadline(`a frame of type ${type}`, new Promise((resolve) => waiting.push({ type, resolve })));
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

  /** Returns all logs of nginx. */
  logText() {
    return [this.accessLog, this.child.log].map((file) => (existsSync(file) ? readFileSync(file, 'utf8') : '')).join('');
  }

  accessLogEntries() {
    const lines = readFileSync(this.accessLog, 'utf8').trim().split('\n');
    return lines.map((line) => JSON.parse(line));
  }
}

const serverLines = (ports) => ports.map((port) => `server ${Number(port) ? `127.0.0.1:${port}` : port} max_fails=1 fail_timeout=1s;`).join(' ');

function acceptKey(request) {
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  return createHash('sha1').update(key).digest('base64');
}

export async function freePort() {
  for (;;) {
    const port = (nextPort += 1);
    const server = createTcpServer();
    const isFree = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

// Below the range from which the kernel takes the ports of outgoing connections: one of these could
// take a port between the check and its use.
let nextPort = 10_000 + Math.floor(Math.random() * 20_000);

/** Ends a process and waits for its exit. */
export async function stopProcess(child) {
  if (child.exitCode !== null || child.signalCode !== null || !child.pid) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  // Longer than timing.drain: a process that still runs then is stuck.
  const killTimer = setTimeout(() => child.kill('SIGKILL'), 12_000);
  await exited;
  clearTimeout(killTimer);
}

const waitForPort = (port, child, deadlineMs) =>
  waitUntil(
    `port ${port} listens`,
    child,
    () =>
      new Promise((resolve, reject) => {
        const socket = connect(port, '127.0.0.1', () => resolve(socket.destroy()));
        socket.on('error', reject);
      }),
    deadlineMs,
  );

/** Repeats a check until it returns true, the process has ended or the deadline is over. */
async function waitUntil(description, child, check, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const ended = child.failure ?? (child.exitCode ?? child.signalCode) !== null;
    if (ended) throw new Error(`${description}: the process has ended:\n${readFileSync(child.log, 'utf8').slice(-2000)}`);
    if (await Promise.resolve().then(check).catch(() => false)) return;
    if (Date.now() > end) throw new Error(`${description}: not in ${deadlineMs} ms:\n${readFileSync(child.log, 'utf8').slice(-2000)}`);
    await sleep(20);
  }
}

function withDeadline(description, promise) {
  let timer;
  const timeout = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${description}: not in ${DEADLINE_MS} ms`)), DEADLINE_MS)));
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}
