// The token endpoints in examples/, in four languages, with the real server behind a proxy that
// can disturb it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { TestSite, bin, freePort, repo } from './harness.mjs';

const folder = (name) => join(repo, 'examples', name);

/** Not the synchronous one, because the proxy is in this process. */
const run = promisify(execFile);

/** Folder → how its README starts it: the program and its arguments, and what comes before it. */
const BACKENDS = {
  'token-express': async () => ['node', ['token.js']],
  'token-fastapi': async (port) => [join(folder('token-fastapi'), '.venv/bin/uvicorn'), ['main:app', '--port', `${port}`]],
  'token-go': async (_, dir) => {
    const [binary, env] = [join(dir, 'token-go'), { PATH: process.env.PATH, GOCACHE: join(dir, 'go-cache'), GOPROXY: 'off' }];
    await run('go', ['build', '-o', binary, '.'], { cwd: folder('token-go'), env });
    return [binary, []];
  },
  'token-php': async (port) => ['php', ['-S', `127.0.0.1:${port}`, 'token.php']],
};

/** What stands between a backend and Signalbox → the status and the code of the answer to the page. */
const DISTURBANCES = {
  'with a wrong key': { headers: { authorization: `Basic ${btoa('shop:wrong')}` }, status: 502, code: 'caller_unknown' },
  'from a page of another site': { headers: { origin: 'https://other.example' }, status: 403, code: 'origin_not_allowed' },
  'as another kind of text': { headers: { 'content-type': 'text/plain' }, status: 502, code: 'not_json' },
  'to a server that stops': { answer: [503, { 'Content-Type': 'application/problem+json', 'Retry-After': '1' }, '{"status":503,"code":"draining","detail":"…"}'], status: 503, code: 'draining' },
  'too often': { answer: [429, { 'Content-Type': 'application/problem+json' }, '{"status":429,"code":"rate_limited","detail":"…"}'], status: 429, code: 'rate_limited' },
  'to a proxy without a server': { answer: [502, { 'Content-Type': 'text/html' }, '<h1>502 Bad Gateway</h1>'], status: 503, code: 'unreachable' },
  'to a server that is none': { answer: [200, { 'Content-Type': 'application/json' }, '"eyJ'], status: 503, code: 'unreachable' },
  'to a list': { answer: [200, { 'Content-Type': 'application/json' }, '[[1]]'], status: [502, 503] },
  'to nothing': { answer: [200, { 'Content-Type': 'application/json' }, '{}'], status: 502 },
  'over a connection that breaks': { answer: 'break', status: 503, code: 'unreachable' },
  'over a connection that breaks in the answer': { answer: 'cut', status: 503, code: 'unreachable' },
  'without an answer': { answer: 'hang', status: 503, code: 'unreachable' },
  ...Object.fromEntries([301, 302, 303, 307, 308].map((status) => [`with a redirect ${status}`, { answer: [status, { Location: '/elsewhere' }, ''], status: 503, code: 'unreachable' }])),
};

const USER = 'ada';
/** A backend in Python loads many modules at its start. */
const DEADLINE_MS = 30_000;

it('every token endpoint in examples/ is tested here', () => {
  assert.deepEqual(readdirSync(join(repo, 'examples')).filter((name) => name.startsWith('token-')), Object.keys(BACKENDS));
});

const site = new TestSite();
const secret = randomBytes(32).toString('hex');
const password = randomBytes(16).toString('hex');
/** Folder → the address of its endpoint. */
const endpoints = new Map();
let signalbox;

before(async () => {
  const port = await freePort();
  signalbox = `127.0.0.1:${port}`;
  const child = site.startProcess('signalbox', join(bin, 'signalbox'), ['--listen', signalbox], {
    SIGNALBOX_API_KEYS: `shop:${secret}`,
    SIGNALBOX__API_KEYS__SHOP__SCOPES: 'tokens,security',
  });
  await site.waitForPort(port, child);
});
after(() => site.close());

/** Asks an endpoint for a token, from a page of another site. */
const ask = (url, room, { login = `${USER}:${password}`, method = 'POST' } = {}) => {
  const headers = { Origin: 'https://other.example', ...(login && { Authorization: `Basic ${btoa(login)}` }) };
  return fetch(`${url}?${new URLSearchParams({ room })}`, { method, headers, signal: AbortSignal.timeout(DEADLINE_MS) });
};

/** The answer is a refusal, and contains no secret. */
async function checkRefusal(response, status, code) {
  const text = await response.text();
  const what = `${response.status} ${text}`;
  assert.ok([status].flat().includes(response.status), what);
  if (code) assert.equal(JSON.parse(text).code, code);
  assert.ok(!text.includes('eyJ') && !text.includes(secret), what);
  assert.equal(response.headers.get('access-control-allow-origin'), null);
  return text;
}

describe('the token endpoints', { concurrency: true }, () => {
  for (const [name, command] of Object.entries(BACKENDS)) {
    describe(name, { concurrency: false }, () => {
      let url;
      let child;
      let program;
      let settings;
      /** What the proxy does with the next requests. */
      let disturbance = {};
      /** The paths of the requests with an API key, in this test. */
      let paths;

      const logText = () => readFileSync(child.log, 'utf8');
      const forward = (request, response) => {
        if (request.headers.authorization) paths.push(request.url);
        if (disturbance.answer === 'hang') return undefined;
        if (disturbance.answer === 'break') return request.socket.destroy();
        if (disturbance.answer === 'cut') return response.writeHead(200, { 'Content-Length': 100 }).write('{"token":"', () => request.socket.destroy());
        if (disturbance.answer) {
          const [status, headers, body] = disturbance.answer;
          return response.writeHead(status, headers).end(body);
        }
        const headers = { ...request.headers, ...disturbance.headers };
        const [host, port] = signalbox.split(':');
        return request.pipe(
          httpRequest({ host, port, method: request.method, path: request.url, headers }, (answer) => {
            response.writeHead(answer.statusCode, answer.headers);
            answer.pipe(response);
          }),
        );
      };

      before(async () => {
        const upstream = await site.startUpstream(forward);
        const port = await freePort();
        url = `http://127.0.0.1:${port}/token`;
        endpoints.set(name, url);
        program = await command(port, site.dir);
        settings = { SIGNALBOX_URL: `http://127.0.0.1:${upstream.port}`, KEY_ID: 'shop', KEY_SECRET: secret, DEMO_LOGIN: `${USER}:${password}`, PORT: `${port}` };
        child = site.startProcess(name, 'sh', ['-c', 'cd "$0" && exec "$@"', folder(name), program[0], ...program[1]], { ...settings, PYTHONDONTWRITEBYTECODE: '1' });
        await site.waitForPort(port, child, DEADLINE_MS);
      });

      beforeEach(() => {
        paths = [];
        disturbance = {};
      });

      it('give a token with which the user joins the room', async () => {
        const response = await ask(url, 'stand-up');
        assert.equal(response.status, 200);
        assert.equal(response.headers.get('cache-control'), 'no-store');
        assert.equal(response.headers.get('access-control-allow-origin'), null);
        assert.match(response.headers.get('content-type'), /^application\/json\b/);
        const { token, ...rest } = await response.json();
        assert.deepEqual(rest, {});
        const socket = new WebSocket(`ws://${signalbox}/ws/signal`, ['signalbox.v1', `token.${token}`]);
        const joined = await new Promise((resolve, reject) => socket.on('message', (data) => resolve(JSON.parse(data))).on('error', reject));
        socket.close();
        assert.deepEqual([joined.type, joined.roomId, joined.userId, joined.role], ['joined', 'stand-up', USER, 'host']);
      });

      it('refuse a user who is not logged in', async () => {
        const logins = [null,  ':', `${USER}:`, `${USER}:${password}x`, `${USER}:${password.toUpperCase()}`, `grace:${password}`, `:${password}`, `:${USER}:${password}`, `${USER}:ä`, 'a'.repeat(2000)];
        for (const login of logins.map((login) => login && Buffer.from(login).toString('latin1'))) {
          const response = await ask(url, 'stand-up', { login });
          assert.match(response.headers.get('www-authenticate') ?? '', /^Basic /, `${login} ${response.status}`);
          await checkRefusal(response, 401, 'login_required');
        }
        assert.equal((await fetch(`${url}?room=stand-up&user=${USER}`, { method: 'POST', headers: { Authorization: 'Bearer x', Cookie: `user=${USER}` } })).status, 401);
        assert.deepEqual(paths, []);
      });

      it('refuse a room in which the user has no role', async () => {
        for (const room of ['', 'board', 'Stand-up', 'stand-up ', 'stand-up/', 'stand-up\0', '__proto__', 'constructor', 'toString', '../stand-up', '*', 'ä', 'r'.repeat(2000)]) await checkRefusal(await ask(url, room), 403, 'room_not_allowed');
        for (const query of ['', '?room[]=stand-up', '?room[stand-up]=ada', '?rooms=stand-up']) {
          await checkRefusal(await fetch(`${url}${query}`, { method: 'POST', headers: { Authorization: `Basic ${btoa(`${USER}:${password}`)}` } }), 403, 'room_not_allowed');
        }
        assert.deepEqual(paths, []);
      });

      it('answer only to POST, and let no other site read the answer', async () => {
        for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS']) await checkRefusal(await ask(url, 'stand-up', { method }), method === 'OPTIONS' ? [200, 404, 405] : [404, 405]);
        assert.deepEqual(paths, []);
      });

      for (const [what, { status, code, ...change }] of Object.entries(DISTURBANCES)) {
        it(`tell the page why there is no token: ${what}`, async () => {
          disturbance = change;
          const earlier = logText().length;
          const text = await checkRefusal(await ask(url, 'stand-up'), status, code);
          assert.match(JSON.parse(text).detail, /^The call server .*\.$/);
          assert.deepEqual(paths, ['/auth/token'], 'the key has gone to one address, once');
          const reason = code && code !== 'unreachable' ? new RegExp(`Signalbox gives no token: \\d+ ${code}: \\S`) : /Signalbox (does not answer|gives no token): /;
          assert.match(logText().slice(earlier), reason);
          disturbance = {};
          assert.equal((await ask(url, 'stand-up')).status, 200);
        });
      }

      it('log neither the token nor the key nor the password', () => {
        for (const word of ['eyJ', secret, password, btoa(`shop:${secret}`)]) assert.ok(!logText().includes(word));
      });

      it('name a setting that is missing', async () => {
        for (const setting of ['SIGNALBOX_URL', 'KEY_ID', 'KEY_SECRET', 'DEMO_LOGIN']) {
          const env = { PATH: process.env.PATH, ...settings, [setting]: '', PYTHONDONTWRITEBYTECODE: '1', REQUEST_METHOD: 'POST' };
          const args = name === 'token-php' ? ['token.php'] : program[1];
          const ended = await run(program[0], args, { cwd: folder(name), env, timeout: DEADLINE_MS }).catch((error) => error);
          assert.ok(ended.code > 0, setting);
          assert.match(ended.stderr, new RegExp(setting));
        }
      });
    });
  }
});

it('a user who is banned gets no token', async () => {
  const headers = { Authorization: `Basic ${btoa(`shop:${secret}`)}`, 'Content-Type': 'application/json' };
  const ban = await fetch(`http://${signalbox}/api/bans`, { method: 'POST', headers, body: JSON.stringify({ user: USER, for: 60 }) });
  assert.equal(ban.status, 200);
  assert.equal(endpoints.size, Object.keys(BACKENDS).length);
  for (const url of endpoints.values()) await checkRefusal(await ask(url, 'stand-up'), 403, 'banned');
});
