// The edge alone: TLS, headers, limits by address, and forwarded requests. A server of this test is
// behind it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import { connect as tcpConnect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { TestSite, stopProcess } from './harness.mjs';

// Has the form of a token, so that the test finds a leak in the logs.
const SECRET = 'eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.tells-of-a-leak';
// Has the form of a resume handle.
const HANDLE = 'eyJzZWFsZWQ.tells-of-a-leak';

describe('the edge', () => {
  const site = new TestSite();
  const seen = [];
  const upgrades = [];
  let upstream;
  let edge;

  before(async () => {
    upstream = await site.startUpstream((request, response) => {
      seen.push(request);
      response.setHeader('content-type', 'application/json').end('{}');
    });
    upstream.onUpgrade((request) => upgrades.push(request.rawHeaders));
    edge = await site.startEdge({ signal: [upstream.port], auth: [upstream.port] });
  });
  after(() => site.close());

  const startLimitedEdge = (limits) => site.startEdge({ signal: [upstream.port], auth: [upstream.port], limits });
  const collectStatuses = async (count, send) => {
    const all = [];
    for (let n = 0; n < count; n++) all.push((await send(n)).status);
    return all;
  };
  /** The status of a request with these headers, sent as they are. */
  const rawStatus = (target, path, headers = {}) =>
    new Promise((resolve, reject) => {
      const options = { host: 'localhost', port: target.tls, path, headers, ca: target.ca, agent: false };
      const request = secureRequest(options, (answer) => answer.resume().on('end', () => resolve(answer.statusCode)));
      request.on('upgrade', (answer, socket) => {
        socket.destroy();
        resolve(answer.statusCode);
      });
      request.on('error', reject).end();
    });
  const UPGRADE = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' };
  const upgradeStatus = (target, path, headers = {}) => rawStatus(target, path, { ...UPGRADE, ...headers });
  const openAndClose = (target, path, options) => async () => {
    const answer = await target.open(path, options);
    answer.socket?.terminate();
    return answer;
  };

  describe('TLS', () => {
    const handshake = (version) =>
      new Promise((resolve) => {
        const socket = tlsConnect({ host: 'localhost', port: edge.tls, ca: edge.ca, minVersion: version, maxVersion: version });
        socket.on('secureConnect', () => resolve(socket.getProtocol()) ?? socket.destroy());
        socket.on('error', (error) => resolve(error.code));
      });

    it('1.3 is accepted', async () => assert.equal(await handshake('TLSv1.3'), 'TLSv1.3'));

    it('1.2 and below are refused', async () => {
      for (const version of ['TLSv1.2', 'TLSv1.1']) assert.match(await handshake(version), /ALERT|UNSUPPORTED|PROTOCOL/);
    });

    const requestPlain = (path, host) =>
      new Promise((resolve, reject) => {
        const headers = host === undefined ? {} : { host };
        const request = plainRequest({ host: '127.0.0.1', port: edge.plain, path, headers, setHost: false }, (answer) => {
          let text = '';
          answer.setEncoding('utf8').on('data', (part) => (text += part));
          answer.on('end', () => resolve({ status: answer.statusCode, location: answer.headers.location, text }));
        });
        request.on('error', reject).end();
      });

    it('plain HTTP redirects to HTTPS', async () => {
      seen.length = 0;
      for (const path of ['/', '/call.js', '/client/index.js', '/auth/token', '/ws/signal', '/health/live', '/?room=stand-up_1.~', '/?room=B%C3%BCro%201', '/?room=..']) {
        for (const host of ['rtc.example', 'RTC.example:80', 'localhost']) {
          const { status, location } = await requestPlain(path, host);
          assert.equal(status, 308, path);
          assert.equal(location, `https://${host.toLowerCase().split(':')[0]}${path}`);
        }
      }
      assert.equal(seen.length, 0);
    });

    it('plain HTTP leads to no other name', async () => {
      const hosts = ['evil.example', 'rtc.example.evil.example', 'evil.example:80', 'xrtc.example', '127.0.0.1', '[::1]'];
      for (const host of hosts) {
        const { status, location } = await requestPlain('/', host);
        assert.deepEqual([status, location], [421, undefined], host);
      }
      // The name in an absolute request line takes precedence over Host (RFC 9112, section 3.2.2).
      assert.equal((await requestPlain('http://evil.example/', 'rtc.example')).status, 421);
      assert.ok([400, 421].includes((await requestPlain('/', undefined)).status), 'no Host');
      assert.equal((await requestPlain('//evil.example/', 'rtc.example')).location, 'https://rtc.example//evil.example/');
    });

    it('the redirect from plain HTTP repeats no credential', async () => {
      for (const [path, target] of [
        [`/ws/signal?token=${SECRET}`, '/ws/signal'],
        [`/ws/signal?resume=${HANDLE}&since=1`, '/ws/signal'],
        [`/?room=r&invite=${SECRET}`, '/'],
        [`/?invite=${SECRET}&room=r`, '/'],
        [`/?room=r%26token=${SECRET}`, '/'],
        [`/?room=r%26token%3D${SECRET}`, '/'],
        [`/index.html?${SECRET}`, '/index.html'],
        [`/%3Ftoken=${SECRET}`, '/'],
        ['/a%0d%0aSet-Cookie:x', '/'],
      ]) {
        const { status, location, text } = await requestPlain(path, 'rtc.example');
        assert.deepEqual([status, location], [308, `https://rtc.example${target}`], path);
        assert.ok(!text.includes(SECRET), path);
      }
    });
  });

  describe('headers', () => {
    it('every answer has the HSTS header', async () => {
      for (const path of ['/', '/client/index.js', '/nothing', '/auth/validate', '/ws/validate']) {
        const { headers } = await edge.request(path);
        assert.match(headers['strict-transport-security'] ?? '', /^max-age=\d{8,}/, path);
      }
    });

    it('the pages may load nothing from other sites, and no site may frame them', async () => {
      const { headers: ofNothing } = await edge.request('/nothing');
      assert.equal(ofNothing['content-security-policy'], "default-src 'none'; frame-ancestors 'none'");
      for (const path of ['/', '/check', '/client/index.js']) {
        const { headers } = await edge.request(path);
        assert.equal(
          headers['content-security-policy'],
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; " +
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
          path,
        );
        assert.match(headers['permissions-policy'], /camera=\(self\), microphone=\(self\)/);
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['x-frame-options'], 'DENY');
        assert.equal(headers['referrer-policy'], 'no-referrer');
        assert.equal(headers.server, 'nginx', 'without a version');
      }
    });

    it('the pages and the client are served with their types', async () => {
      const [script] = /call-\w+\.js/.exec((await edge.request('/')).text);
      const [, checkScript] = /"(check-\w+\.js)"/.exec((await edge.request('/check')).text);
      for (const [path, type] of [['/', /^text\/html/], ['/check', /^text\/html/], [`/${script}`, /javascript/], [`/${checkScript}`, /javascript/], ['/client/index.js', /javascript/]]) {
        const { status, headers } = await edge.request(path);
        assert.equal(status, 200, path);
        assert.match(headers['content-type'], type);
      }
      for (const path of ['/client/../package.json', '/client/%2e%2e/package.json', '/client../package.json', '/.git/config', '/check/', '/check/index.html']) {
        assert.ok([400, 404].includes((await edge.request(path)).status), path);
      }
    });
  });

  describe('requests to the services', () => {
    const forwardedRequest = async (path, headers) => {
      seen.length = 0;
      await edge.request(path, { headers });
      assert.equal(seen.length, 1, path);
      return seen[0];
    };

    it('the edge sets the client address and ignores the claimed one', async () => {
      const claims = { 'X-Forwarded-For': '203.0.113.9', 'X-Real-IP': '203.0.113.9', Forwarded: 'for=203.0.113.9', 'X-Forwarded-Proto': 'http' };
      for (const path of ['/auth/validate', '/api/rooms', '/ws/validate', '/ws/events']) {
        const { headers } = await forwardedRequest(path, claims);
        assert.ok(['::ffff:127.0.0.1', '::1'].includes(headers['x-forwarded-for']), headers['x-forwarded-for']);
        assert.equal(headers['x-forwarded-proto'], 'https');
        assert.doesNotMatch(JSON.stringify(headers), /203\.0\.113\.9/);
      }
    });

    it('Host contains the port, so that the services know their own Origin', async () => {
      const { headers } = await forwardedRequest('/auth/validate', { Origin: `https://localhost:${edge.tls}` });
      assert.equal(headers.origin, `https://${headers.host}`);
    });

    it('only the paths of WebSockets may upgrade', async () => {
      for (const [path, method] of [['/auth/token', 'POST'], ['/auth/validate', 'GET'], ['/api/rooms', 'POST'], ['/ws/validate', 'GET'], ['/ws/signal', 'POST'], ['/ws/events', 'POST']]) {
        seen.length = 0;
        const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'content-length': '2' };
        const answer = await edge.request(path, { method, headers, body: '{}' });
        assert.equal(answer.status, 200, path);
        assert.equal(seen[0].headers.upgrade, undefined, path);
        assert.notEqual(seen[0].headers.connection, 'upgrade', path);
      }
    });

    it('health, metrics and unknown paths are not reachable from outside', async () => {
      seen.length = 0;
      for (const path of ['/health/live', '/health/ready', '/metrics', '/ws/', '/ws/other', '/ws/signal/x', '/auth', '/%68ealth/live', '//metrics']) {
        assert.ok([301, 404].includes((await edge.request(path)).status), path);
      }
      assert.equal(seen.length, 0);
    });
  });

  describe('limits by address', () => {
    it('new connections above the rate get 429', async () => {
      const tight = await startLimitedEdge({ EDGE_WS_PER_MINUTE: '6', EDGE_WS_BURST: '2' });
      assert.deepEqual(await collectStatuses(5, openAndClose(tight, `/ws/signal?token=${SECRET}`)), [101, 101, 101, 429, 429]);
      const answer = await tight.open('/ws/signal', { protocols: ['signalbox.v1', `token.${SECRET}`] });
      assert.equal(answer.status, 429, 'also with the token as a subprotocol');
      assert.equal(answer.json().code, 'rate_limited');
      assert.ok(Number(answer.headers['retry-after']) > 0);
      assert.equal((await tight.request(`/ws/validate?token=${SECRET}`)).status, 429, 'validation requests count too');
    });

    it('a page of another origin can read every answer of the edge itself', async () => {
      const limits = { EDGE_WS_PER_MINUTE: '6', EDGE_WS_BURST: '1', EDGE_RESUMES_PER_MINUTE: '6', EDGE_RESUMES_BURST: '1', EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '1' };
      const [tight, dead] = [await startLimitedEdge(limits), await site.startEdge({ signal: [1], auth: [1] })];
      const headers = { Origin: 'https://app.example' };
      const bearer = { ...headers, authorization: `Bearer ${SECRET}` };
      const resume = { ...headers, authorization: `Resume ${HANDLE}` };
      const rows = [];
      for (const [path, method, more] of [['/ws/validate', 'GET', bearer], ['/ws/validate', 'GET', resume], ['/auth/token', 'POST', headers], ['/api/rooms', 'GET', bearer], ['/.well-known/jwks.json', 'GET', headers]]) {
        for (let n = 0; n < 3; n += 1) await tight.request(path, { method, headers: more });
        rows.push([429, await tight.request(path, { method, headers: more }), path], [503, await dead.request(path, { method, headers: more }), path]);
      }
      rows.push([413, await edge.request('/auth/token', { method: 'POST', headers, body: 'x'.repeat(70_000) }), '/auth/token']);
      for (const [status, answer, path] of rows) {
        assert.deepEqual([answer.status, answer.headers['access-control-allow-origin']], [status, '*'], path);
        assert.equal(typeof answer.json().code, 'string', path);
        if (status !== 413) assert.equal(answer.headers['access-control-expose-headers'], 'Retry-After', path);
        // A page may also find out that there is an answer without reading it.
        assert.equal(answer.headers['cross-origin-resource-policy'], 'cross-origin', path);
      }
    });

    it('each answer that nginx makes by itself is readable and has a code', async () => {
      /** The answer to these bytes on the port of HTTPS. */
      const sendRaw = (text, { plain = false } = {}) =>
        new Promise((resolve, reject) => {
          const socket = plain ? tcpConnect(edge.tls, '127.0.0.1') : tlsConnect({ host: 'localhost', port: edge.tls, ca: edge.ca });
          const chunks = [];
          socket.on('data', (chunk) => chunks.push(chunk)).on('error', reject);
          socket.on(plain ? 'connect' : 'secureConnect', () => socket.write(text));
          socket.on('close', () => {
            const [head, body = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n', 2);
            const [status, ...lines] = head.split('\r\n');
            const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(': ', 2)));
            resolve({ status: Number(status.split(' ')[1]), headers, json: () => JSON.parse(body) });
          });
        });
      const origin = 'Host: localhost\r\nOrigin: https://app.example\r\nConnection: close\r\n';
      const headers = { Origin: 'https://app.example' };
      const rows = [
        [400, 'no Host', sendRaw('GET /auth/token HTTP/1.1\r\nConnection: close\r\n\r\n')],
        [400, 'no HTTP', sendRaw('nonsense\r\n\r\n')],
        [400, 'plain HTTP', sendRaw(`GET / HTTP/1.1\r\n${origin}\r\n`, { plain: true })],
        [403, 'a folder', edge.request('/client/', { headers })],
        [404, 'an unknown path', edge.request('/nothing', { headers })],
        [404, 'an unknown path of WebSockets', edge.request('/ws/nothing', { headers })],
        [404, 'a path without its slash', edge.request('/auth', { headers })],
        [404, 'the path of these answers', edge.request('/edge-answer', { headers })],
        [405, 'POST for a file', edge.request('/', { method: 'POST', headers, body: 'x' })],
        [412, 'another version of a file', edge.request('/', { headers: { ...headers, 'If-Match': '"x"' } })],
        [413, 'a long body', edge.request('/auth/token', { method: 'POST', headers, body: 'x'.repeat(70_000) })],
        [414, 'a long URL', sendRaw(`GET /auth/token?token=${'x'.repeat(20_000)} HTTP/1.1\r\n${origin}\r\n`)],
        [431, 'a long header', sendRaw(`GET /auth/token HTTP/1.1\r\n${origin}Authorization: Bearer ${'x'.repeat(20_000)}\r\n\r\n`)],
        [501, 'an unknown encoding', sendRaw(`POST /auth/token HTTP/1.1\r\n${origin}Transfer-Encoding: gzip\r\n\r\n`)],
        [505, 'HTTP/2', sendRaw(`GET / HTTP/2.0\r\n${origin}\r\n`)],
      ];
      // The rows for these are in the test above. No request makes nginx answer 500.
      const others = [429, 500, 503];
      const config = readFileSync(new URL('../../deploy/nginx/edge.conf.template', import.meta.url), 'utf8');
      const handled = [...config.matchAll(/error_page ([\d ]+?) *(?:=(\d+) )?\/edge-answer/g)].flatMap(([, from, to]) => (to ? [to] : from.split(' ')).map(Number));
      assert.deepEqual([...new Set([...rows.map(([status]) => status), ...others])].sort(), [...new Set(handled)].sort(), 'each status has a row');
      const range = await edge.request('/', { headers: { ...headers, Range: 'bytes=900000-' } });
      assert.equal(range.status, 200, 'there is no 416');
      for (const [status, what, asked] of rows) {
        const answer = await asked;
        assert.deepEqual([answer.status, answer.headers['access-control-allow-origin']], [status, '*'], what);
        assert.equal(answer.headers['cross-origin-resource-policy'], 'cross-origin', what);
        assert.match(answer.headers['content-type'], /^application\/problem\+json/, what);
        assert.ok(answer.headers['strict-transport-security'], what);
        const problem = answer.json();
        assert.equal(problem.status, status, what);
        assert.ok([problem.code, problem.title, problem.detail].every((text) => text?.length > 2), what);
      }
    });

    it('a preflight, whose refusal no page can read, has the large bucket', async () => {
      const tight = await startLimitedEdge({ EDGE_WS_PER_MINUTE: '1', EDGE_WS_BURST: '1', EDGE_AUTH_PER_MINUTE: '1', EDGE_AUTH_BURST: '1', EDGE_RESUMES_PER_MINUTE: '6', EDGE_RESUMES_BURST: '3' });
      const headers = { Origin: 'https://app.example', 'Access-Control-Request-Method': 'GET', 'Access-Control-Request-Headers': 'authorization' };
      for (const path of ['/auth/token', '/ws/validate']) {
        const statuses = await collectStatuses(5, () => tight.request(path, { method: 'OPTIONS', headers }));
        assert.deepEqual(statuses, [200, 200, 200, 200, 429], path);
        assert.equal((await tight.request(path)).status, 200, `${path}: the bucket of requests is full`);
      }
    });

    it('a resume has its own bucket', async () => {
      const tight = await startLimitedEdge({ EDGE_WS_PER_MINUTE: '6', EDGE_WS_BURST: '1', EDGE_RESUMES_PER_MINUTE: '6', EDGE_RESUMES_BURST: '3' });
      assert.deepEqual(await collectStatuses(3, openAndClose(tight, `/ws/signal?token=${SECRET}`)), [101, 101, 429]);
      assert.deepEqual(await collectStatuses(5, openAndClose(tight, `/ws/signal?resume=${HANDLE}&since=4`)), [101, 101, 101, 101, 429]);
    });

    it('a resume with the handle as a subprotocol uses the same bucket', async () => {
      const tight = await startLimitedEdge({ EDGE_WS_PER_MINUTE: '6', EDGE_WS_BURST: '1', EDGE_RESUMES_PER_MINUTE: '6', EDGE_RESUMES_BURST: '3' });
      const resume = { protocols: ['signalbox.v1', `resume.${HANDLE}`] };
      assert.deepEqual(await collectStatuses(3, (n) => openAndClose(tight, n === 1 ? '/ws/signal' : '/ws/signal?since=4', resume)()), [101, 101, 101]);
      assert.deepEqual(await collectStatuses(3, openAndClose(tight, '/ws/signal')), [101, 101, 429], 'the bucket of new connections is separate');
      assert.deepEqual(await collectStatuses(2, openAndClose(tight, '/ws/signal?since=4', resume)), [101, 429]);
    });

    describe('of a client that returns', () => {
      const strict = { EDGE_WS_PER_MINUTE: '1', EDGE_WS_BURST: '1' };
      /** Returns an edge whose bucket of new connections is empty for this client. */
      const startExhaustedEdge = async () => {
        const target = await startLimitedEdge(strict);
        assert.deepEqual(await collectStatuses(3, openAndClose(target, '/ws/signal')), [101, 101, 429]);
        return target;
      };
      const authorization = `Bearer ${SECRET}`;
      const offer = (...values) => ({ 'Sec-WebSocket-Protocol': values.join(', ') });

      it('the listed forms of a resume use the resume bucket', async () => {
        const target = await startExhaustedEdge();
        for (const [query, headers] of [
          [`?resume=${HANDLE}`, {}],
          [`?resume=${HANDLE}&since=0`, {}],
          [`?resume=${HANDLE}&since=9007199254740991`, offer('signalbox.v1')],
          ['', offer('signalbox.v1', `resume.${HANDLE}`)],
          ['?since=4', { 'Sec-WebSocket-Protocol': `signalbox.v1,resume.${HANDLE}` }],
        ]) {
          assert.equal(await upgradeStatus(target, `/ws/signal${query}`, headers), 101, query);
        }
        assert.equal((await target.request(`/ws/validate?resume=${HANDLE}`)).status, 200);
        assert.equal((await target.request('/ws/validate', { headers: { authorization: `Resume ${HANDLE}` } })).status, 200);
      });

      it('a new connection cannot use the resume bucket', async () => {
        const target = await startExhaustedEdge();
        const resume = `resume=${HANDLE}`;
        // Every name that a service reads, with each of its characters encoded.
        const spellings = (name) => [
          name,
          ...[...name].map((c, n) => `${name.slice(0, n)}%${c.charCodeAt(0).toString(16)}${name.slice(n + 1)}`),
          ...[...name].map((c, n) => `${name.slice(0, n)}%${c.charCodeAt(0).toString(16).toUpperCase()}${name.slice(n + 1)}`),
          name.toUpperCase(),
          `${name}%00`,
          `+${name}`,
        ];
        const tokens = spellings('token').map((name) => `${name}=${SECRET}`);
        const queries = [
          ...tokens,
          ...tokens.flatMap((token) => [`${token}&x=,resume.`, `${token}&${resume}`, `${resume}&${token}`, `${resume}&since=1&${token}`, `since=1&${token}&x=%20,resume.${HANDLE}`]),
          ...spellings('resume').slice(1).map((name) => `${name}=${HANDLE}`),
          ...spellings('since').slice(1).map((name) => `${resume}&${name}=1`),
          `${resume}&${resume}`,
          `${resume}&since=1&since=2`,
          `${resume}&since=-1`,
          `${resume}&since=`,
          `${resume}&`,
          `&${resume}`,
          `since=1&${resume}`,
          `${resume};token=${SECRET}`,
          `${resume}%26token=${SECRET}`,
          `${resume}%23`,
          `resume=${HANDLE}.x`,
          'resume=1',
          'resume=a%2Eb',
          'xresume=a.b',
          `?${resume}`,
          'x=,resume.',
          'since=1',
        ];
        for (const query of queries) {
          assert.equal(await upgradeStatus(target, `/ws/signal?${query}`), 429, query);
          assert.equal((await rawStatus(target, `/ws/validate?${query}`)), 429, `validate ${query}`);
        }
        const protocols = [
          [`resume.${HANDLE}`],
          ['signalbox.v1'],
          ['x', 'resume.x'],
          ['signalbox.v1', 'resume.x'],
          [`resume.${HANDLE}`, 'signalbox.v1'],
          ['signalbox.v1', `resume.${HANDLE}`, `resume.${HANDLE}`],
          ['signalbox.v1', `resume.${HANDLE}`, 'x'],
          ['signalbox.v1', `token.${SECRET}`],
          ['signalbox.v1', `token.${SECRET}`, `resume.${HANDLE}`],
          ['signalbox.v1', `resume.${HANDLE}`, `token.${SECRET}`],
          ['signalbox.v1', `resume.${HANDLE}\ttoken.${SECRET}`],
          ['signalbox.v1', `Resume.${HANDLE}`],
          [`signalbox.v1,\tresume.${HANDLE}`],
        ];
        for (const values of protocols) {
          for (const query of ['', '?since=4', `?token=${SECRET}`]) {
            assert.equal(await upgradeStatus(target, `/ws/signal${query}`, offer(...values)), 429, `${query} ${values}`);
          }
        }
        for (const values of [[], ['signalbox.v1', `resume.${HANDLE}`], ['x', 'resume.x']]) {
          const headers = values.length ? { ...offer(...values), authorization } : { authorization };
          for (const query of ['', `?${resume}`, `?${resume}&since=1`, '?a=,resume.']) {
            assert.equal(await rawStatus(target, `/ws/validate${query}`, headers), 429, `validate ${query} ${values}`);
          }
          assert.equal(await upgradeStatus(target, `/ws/signal?${resume}`, headers), 429);
        }
        assert.equal(await rawStatus(target, '/ws/validate', offer('signalbox.v1', `resume.${HANDLE}`)), 429, 'no handle is read there');
        for (const value of [`Resume ${HANDLE}.x`, 'Resume x', `Resume  ${HANDLE}`, `resume ${HANDLE}`, `Resume ${HANDLE}, Bearer ${SECRET}`, `Bearer ${SECRET}, Resume ${HANDLE}`]) {
          assert.equal(await rawStatus(target, '/ws/validate', { authorization: value }), 429, value);
        }
        assert.equal(await rawStatus(target, `/ws/validate?token=${SECRET}`, { authorization: `Resume ${HANDLE}` }), 429, 'a token and a handle');
        assert.equal(await upgradeStatus(target, '/ws/signal', { authorization: `Resume ${HANDLE}` }), 429, 'an upgrade');
        for (const path of [`/ws/../ws/signal?${resume}&token=${SECRET}`, `/ws/%73ignal?token=${SECRET}&${resume}`, `//ws/signal?token=${SECRET}`]) {
          assert.notEqual(await upgradeStatus(target, path), 101, path);
        }
        assert.equal((await target.request(`/ws/validate?${resume}`, { method: 'POST' })).status, 429, 'another method');
      });

      it('the node reads the same of a repeated header', async () => {
        const target = await startExhaustedEdge();
        seen.length = 0;
        await rawStatus(edge, '/ws/validate', { 'Sec-WebSocket-Protocol': ['signalbox.v1', `token.${SECRET}`] });
        const names = seen[0].rawHeaders.map((text) => text.toLowerCase());
        assert.equal(names.filter((text) => text === 'sec-websocket-protocol').length, 1);
        const authorizations = [authorization, 'Basic x'];
        if ((await rawStatus(edge, '/ws/validate', { Authorization: authorizations })) === 200) {
          assert.equal(seen[1].rawHeaders.filter((text) => authorizations.includes(text)).length, 1);
        }
        // nginx uses the first of them, or all of them joined.
        const first = { 'Sec-WebSocket-Protocol': [`signalbox.v1, resume.${HANDLE}`, `token.${SECRET}`] };
        if ((await upgradeStatus(target, '/ws/signal', first)) === 101) {
          assert.ok(!JSON.stringify(upgrades.at(-1)).includes(SECRET), 'the node gets no token');
        }
      });
    });

    it('requests to /auth/ and to the feed share one rate', async () => {
      const tight = await startLimitedEdge({ EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '2' });
      const token = () => tight.request('/auth/token', { method: 'POST', body: '{}', headers: { authorization: `Basic ${SECRET}` } });
      assert.deepEqual(await collectStatuses(4, token), [200, 200, 200, 429]);
      const answer = await token();
      assert.equal(answer.headers['content-type'], 'application/problem+json');
      assert.ok(answer.headers['strict-transport-security']);
      assert.equal((await tight.open('/ws/events')).status, 429);
      assert.equal((await tight.request('/api/rooms')).status, 429, 'API requests use the same bucket');
      assert.equal((await tight.open('/ws/signal')).status, 101, 'signaling has another bucket');
    });

    it('open sockets of a client are limited', async () => {
      const tight = await startLimitedEdge({ EDGE_SOCKETS_PER_CLIENT: '2' });
      const open = [await tight.open('/ws/signal'), await tight.open('/ws/signal')];
      assert.equal((await tight.open('/ws/signal')).status, 429);
      for (const { socket } of open) socket.terminate();
    });

    it('each address has its own buckets', async () => {
      const tight = await startLimitedEdge({ EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '1' });
      const ask = (localAddress) => tight.request('/auth/validate', { host: '127.0.0.1', localAddress });
      assert.deepEqual(await collectStatuses(6, (n) => ask(`127.0.0.${(n % 2) + 1}`)), [200, 200, 200, 200, 429, 429]);
    });

    it('the addresses of one IPv6 /64 are one client', async (t) => {
      const addresses = ['fd00:5b:0:1::1', 'fd00:5b:0:1:ffff::2', 'fd00:5b:0:2::1'];
      try {
        for (const address of addresses) execFileSync('ip', ['-6', 'addr', 'add', `${address}/128`, 'dev', 'lo'], { stdio: 'pipe' });
      } catch {
        return t.skip('needs a network namespace of its own');
      }
      t.after(() => addresses.forEach((address) => execFileSync('ip', ['-6', 'addr', 'del', `${address}/128`, 'dev', 'lo'])));
      const tight = await startLimitedEdge({ EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '1' });
      const ask = (n) => tight.request('/auth/validate', { host: '::1', servername: 'localhost', localAddress: addresses[n % 3] });
      assert.deepEqual(await collectStatuses(6, ask), [200, 200, 200, 429, 429, 200]);
    });

    it('a body that is too large is refused at the edge', async () => {
      seen.length = 0;
      const answer = await edge.request('/auth/token', { method: 'POST', body: 'x'.repeat(70_000) });
      assert.equal(answer.status, 413);
      assert.equal(answer.json().code, 'body_too_large');
      assert.equal(seen.length, 0);
    });
  });

  describe('a node that does not answer', () => {
    it('is skipped when it is down or refuses', async () => {
      const full = await site.startUpstream((_, response) => response.writeHead(503, { 'retry-after': '1' }).end('{}'));
      for (const other of [1, full.port]) {
        const two = await site.startEdge({ signal: [other, upstream.port], auth: [upstream.port] });
        assert.deepEqual(await collectStatuses(4, () => two.request('/ws/validate')), [200, 200, 200, 200]);
      }
    });

    it('is a 503 with Retry-After when there is no other node', async () => {
      const none = await site.startEdge({ signal: [1], auth: [1] });
      for (const path of ['/ws/signal', '/auth/token', '/ws/validate']) {
        const answer = await none.request(path);
        assert.equal(answer.status, 503, path);
        assert.equal(answer.json().code, 'unavailable');
        assert.equal(answer.headers['retry-after'], '1');
        assert.ok(answer.headers['strict-transport-security']);
      }
      assert.equal((await none.request('/')).status, 200, 'the page needs no service');
    });
  });

  describe('logs', () => {
    const sendSecrets = async (target) => {
      const protocols = ['signalbox.v1', `token.${SECRET}`];
      for (let n = 0; n < 3; n++) {
        await openAndClose(target, `/ws/signal?token=${SECRET}`, { headers: { Referer: `https://x.example/?token=${SECRET}` } })();
        await openAndClose(target, `/ws/signal?resume=${HANDLE}&since=4`)();
        await openAndClose(target, '/ws/signal?since=4', { protocols: ['signalbox.v1', `resume.${HANDLE}`] })();
        await target.request(`/ws/validate?resume=${HANDLE}`);
        await openAndClose(target, '/ws/signal', { protocols })();
        await target.request(`/auth/validate?token=${SECRET}`, { headers: { authorization: `Bearer ${SECRET}` } });
        await target.request(`/nothing?token=${SECRET}`);
        await target.request(`/nothing%3Ftoken=${SECRET}`);
        await target.request(`/auth/validate?token=${SECRET}${'x'.repeat(20_000)}`).catch(() => {});
        await target.request(`/auth/validate?token=${SECRET}`, { headers: { authorization: `Bearer ${SECRET}${'x'.repeat(20_000)}` } }).catch(() => {});
      }
      await stopProcess(target.child);
    };
    const assertClean = (target) => {
      for (const mark of ['eyJ', 'tells-of', '?', 'token', 'resume', 'since', 'Bearer']) {
        // The path of the token endpoint is not a secret.
        const written = target.logText().replaceAll('/auth/token', '');
        assert.ok(!written.includes(mark), `${mark} in: ${written}`);
      }
    };

    it('contain no query, token or header after success, limit or failure', async () => {
      const limits = { EDGE_WS_PER_MINUTE: '6', EDGE_WS_BURST: '1', EDGE_RESUMES_PER_MINUTE: '6', EDGE_RESUMES_BURST: '1', EDGE_SOCKETS_PER_CLIENT: '1' };
      const cases = [
        [{}, [101, 200]],
        [{ limits: { ...limits, EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '1' } }, [101, 200, 429]],
        [{ signal: [1], auth: [1] }, [503]],
        // connect() fails as without free source ports, and nginx logs that at `crit`.
        [{ signal: ['[fe80::1]:9'], auth: ['[fe80::1]:9'] }, [503]],
      ];
      for (const [options, expected] of cases) {
        const target = await site.startEdge({ signal: [upstream.port], auth: [upstream.port], ...options });
        await sendSecrets(target);
        assertClean(target);
        const found = new Set(target.accessLogEntries().map(({ status }) => status));
        for (const status of expected) assert.ok(found.has(status), `${status} did not occur: ${[...found]}`);
      }
    });

    it('show which client was limited and which node failed', async () => {
      const tight = await site.startEdge({ signal: [1], auth: [upstream.port], limits: { EDGE_AUTH_PER_MINUTE: '6', EDGE_AUTH_BURST: '1' } });
      for (let n = 0; n < 3; n++) await tight.request('/auth/validate');
      await tight.request('/ws/validate');
      await stopProcess(tight.child);
      const [, , limited, failed] = tight.accessLogEntries();
      assert.deepEqual([limited.path, limited.status, limited.limit_req], ['/auth/validate', 429, 'REJECTED']);
      assert.deepEqual([failed.path, failed.status, failed.upstream, failed.upstream_status], ['/ws/validate', 503, '127.0.0.1:1', '502']);
    });
  });
});
