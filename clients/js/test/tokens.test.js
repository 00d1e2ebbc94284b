/** Renewal of tokens on an open connection, and sources of tokens with a real HTTP server. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, afterEach, before, beforeEach, describe, mock, test } from 'node:test';
import { SignalingError } from '../src/index.js';
import { ticketFor, tokenSource } from '../src/token-source.js';
import { connectClient, joinedFrame } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

const settle = () => new Promise((resolve) => setImmediate(resolve));
const REFRESHED = { type: 'token-refreshed', expiresIn: 900_000, role: 'guest', permissions: ['publish', 'message', 'data'], resume: 'handle.3' };

/** The clients of the test. */
const clients = [];

/** Joins a client, and records its errors and the tokens that it sends. */
async function joinClient(options, joined = {}) {
  const context = await connectClient(options);
  const { client, socket } = context;
  clients.push(client);
  const errors = [];
  const expiring = [];
  client.on('error', (error) => errors.push(error.code));
  client.on('token-expiring', ({ expiresIn }) => expiring.push(expiresIn));
  socket.join({ resume: 'handle.1', ...joined });
  const sentTokens = () => socket.frames('refresh').map(({ token }) => token);
  return { ...context, errors, expiring, sentTokens };
}

/** Creates a `getToken` with these answers in order; it throws an answer that is not a string. */
function createProvider(...answers) {
  const asked = [];
  const getToken = async () => {
    asked.push(Date.now());
    const answer = answers.shift();
    if (typeof answer !== 'string') throw answer;
    return answer;
  };
  return { getToken, asked };
}

async function tick(ms) {
  mock.timers.tick(ms);
  await settle();
}

describe('on an open connection', () => {
  beforeEach(() => mockTime());
  afterEach(() => {
    // A client that lost its connection would go on in real time.
    for (const client of clients.splice(0)) client.leave();
    restoreTime();
  });

  test('before a token expires a new one is requested and sent, and the client resumes with the new handle', async () => {
    const { getToken } = createProvider('T1', 'T2');
    const { client, server, socket, sentTokens, errors } = await joinClient({ getToken });
    const refreshed = client.next('token-refreshed');
    socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
    await settle();
    assert.deepEqual(sentTokens(), ['T2']);
    socket.deliver(REFRESHED);
    assert.equal((await refreshed).expiresIn, 900_000);
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    assert.equal((await arrived).protocols[1], 'resume.handle.3');
    assert.deepEqual(errors, []);
  });

  test('a failure of getToken is reported and retried before the token expires', async () => {
    const { getToken, asked } = createProvider('T1', new TypeError('network'), new SignalingError('unreachable'), 'T2');
    const { socket, sentTokens, errors } = await joinClient({ getToken, random: () => 1 });
    socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
    await settle();
    assert.deepEqual([errors, asked.length], [['no_token'], 2]);
    await tick(1000);
    await tick(1999);
    assert.deepEqual([errors, asked.length], [['no_token', 'unreachable'], 3]);
    await tick(1);
    assert.deepEqual(sentTokens(), ['T2']);
  });

  test('no attempt starts after the token has expired', async () => {
    const getToken = mock.fn(() => (getToken.mock.callCount() === 0 ? 'T1' : Promise.reject(new TypeError('network'))));
    const { socket, errors } = await joinClient({ getToken, random: () => 1 });
    socket.deliver({ type: 'token-expiring', expiresIn: 4000 });
    await settle();
    for (let second = 0; second < 60; second += 1) await tick(1000);
    assert.deepEqual(errors, ['no_token', 'no_token', 'no_token']);
  });

  test('getToken is not called again after a final refusal', async () => {
    const { getToken, asked } = createProvider('T1', new SignalingError('banned', 'no', { status: 403 }), 'T2');
    const { socket, errors } = await joinClient({ getToken });
    socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
    for (let second = 0; second < 60; second += 1) await tick(1000);
    assert.deepEqual([errors, asked.length], [['banned'], 2]);
  });

  for (const [how, answer, code] of [
    ['refuses', (socket) => socket.deliver({ type: 'error', code: 'bad_token', message: 'the signature is wrong', field: 'token' }), 'bad_token'],
    ['does not answer', () => mock.timers.tick(10_000), 'no_answer'],
  ]) {
    test(`a token that the server ${how} is reported and replaced`, async () => {
      const { getToken } = createProvider('T1', 'T2', 'T3');
      const { socket, sentTokens, errors } = await joinClient({ getToken });
      socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
      await settle();
      answer(socket);
      await settle();
      assert.deepEqual(errors, [code]);
      await tick(0);
      assert.deepEqual(sentTokens(), ['T2', 'T3']);
    });
  }

  test('a token that arrives after the connection is lost is not sent on the next one', async () => {
    let give;
    const getToken = mock.fn(() => (getToken.mock.callCount() === 0 ? 'T1' : new Promise((resolve) => (give = resolve))));
    const { server, socket, sentTokens, errors } = await joinClient({ getToken });
    socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    const again = await arrived;
    again.resume();
    give('T2');
    await settle();
    assert.deepEqual([sentTokens(), again.frames('refresh'), errors], [[], [], []]);
  });

  test('a refresh does not wait for an unavailable store', async () => {
    const { getToken } = createProvider('T1', 'T2');
    const { client, socket, sentTokens } = await joinClient({ getToken });
    client.message('x').catch(() => {});
    socket.deliver({ type: 'error', id: 1, code: 'unavailable', message: '', retryMs: 60_000 });
    socket.deliver({ type: 'token-expiring', expiresIn: 30_000 });
    await settle();
    assert.deepEqual(sentTokens(), ['T2']);
  });

  test('the application sends other tokens, one at a time', async () => {
    const { client, socket, sentTokens } = await joinClient();
    const bad = client.refresh('bad');
    const good = client.refresh('T2');
    await settle();
    socket.deliver({ type: 'error', code: 'bad_token', message: 'no', field: 'token' });
    await assert.rejects(bad, { code: 'bad_token' });
    await settle();
    assert.deepEqual(sentTokens(), ['bad', 'T2'], 'one at a time');
    socket.deliver(REFRESHED);
    await good;
    socket.end(4004, 'session_gone');
    await assert.rejects(client.refresh('T3'), { code: 'lost' });
  });

  test('after its token has expired a client joins with another token as a new peer', async () => {
    const { getToken } = createProvider('T1', 'T2');
    const { client, server, socket } = await joinClient({ getToken });
    const arrived = server.next();
    socket.end(4006, 'token_expired');
    assert.equal(client.state, 'waiting');
    mock.timers.runAll();
    assert.equal((await arrived).protocols[1], 'token.T2');
  });

  for (const [closeCode, code] of [[4008, 'shut_down'], [4009, 'token_in_use']]) {
    test(`after ${code} the client waits as long as the close asks`, async () => {
      const { socket, states } = await joinClient();
      socket.end(closeCode, `${code};7000`);
      const { state, retryInMs, error } = states.at(-1);
      assert.deepEqual([state, retryInMs, error.code], ['waiting', 7000, code]);
    });
  }

  for (const [closeCode, code] of [[4515, 'banned'], [4516, 'revoked'], [4517, 'room_locked'], [4518, 'room_disabled'], [4519, 'room_not_started'], [4520, 'address_denied'], [4521, 'denied']]) {
    test(`${closeCode} is final with the error ${code}`, async () => {
      const { client, socket, states } = await joinClient();
      socket.end(closeCode, code);
      const { state, error } = states.at(-1);
      assert.deepEqual([state, error.code, error.closeCode, error.retryable, error instanceof SignalingError], ['closed', code, closeCode, false, true]);
      mock.timers.runAll();
      assert.equal(client.state, 'closed');
    });
  }
});

describe('from a server', () => {
  /** The requests to the server, and its answers in order; without an answer it disconnects. */
  const asked = [];
  const proofs = [];
  let answers = [];
  let server;
  let url;

  before(async () => {
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (part) => (body += part));
      request.on('end', () => {
        asked.push([request.url, body ? JSON.parse(body) : request.headers.authorization]);
        proofs.push(request.headers.authorization);
        const answer = answers.shift();
        if (!answer) return request.socket.destroy();
        const [status, content] = answer;
        response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(content));
      });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  beforeEach(() => [asked, proofs].forEach((list) => list.splice(0)));

  const paths = () => asked.map(([path]) => path);

  test('a refresh token is used once, and the next one after it', async () => {
    answers = [[200, { token: 'T2', refreshToken: 'R2' }], [200, { token: 'T3', refreshToken: 'R3' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    assert.deepEqual([await getToken(), await getToken(), await getToken()], ['T1', 'T2', 'T3']);
    assert.deepEqual(asked, [['/auth/refresh', { refreshToken: 'R1' }], ['/auth/refresh', { refreshToken: 'R2' }]]);
  });

  test('calls at the same time use the refresh token once', async () => {
    answers = [[200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    assert.deepEqual(await Promise.all([getToken(), getToken(), getToken()]), ['T2', 'T2', 'T2']);
    assert.equal(asked.length, 1);
  });

  test('after a lost answer the same refresh token is sent again', async () => {
    answers = [null, [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    assert.equal(await getToken(), 'T2');
    assert.deepEqual(asked, [['/auth/refresh', { refreshToken: 'R1' }], ['/auth/refresh', { refreshToken: 'R1' }]]);
  });

  test('a refresh token without an answer is not sent again after the repeat time of the server', async (t) => {
    answers = [];
    let grants = 0;
    const getToken = tokenSource({ url, grant: () => ({ token: `T${(grants += 1)}`, refreshToken: 'R1' }) });
    await getToken();
    const now = Date.now;
    let ahead = 0;
    t.mock.method(Date, 'now', () => now() + (ahead += 5000));
    await assert.rejects(getToken(), { code: 'unreachable' });
    assert.equal(await getToken(), 'T2', 'the backend issued it, because the old refresh token may count as stolen');
    assert.deepEqual(paths(), ['/auth/refresh']);
  });

  test('a refused refresh token is forgotten, and the backend issues another', async () => {
    answers = [[401, { code: 'refresh_expired' }]];
    let grants = 0;
    const getToken = tokenSource({ url, grant: () => ({ token: `T${(grants += 1)}`, refreshToken: 'R' }) });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
  });

  test('a refresh token stays valid after a 503', async () => {
    answers = [[503, { code: 'unavailable' }], [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    await assert.rejects(getToken(), { code: 'unavailable', retryable: true });
    assert.equal(await getToken(), 'T2');
  });

  test('an invite is used once, and its refresh token is used after that', async () => {
    answers = [[200, { token: 'T1', refreshToken: 'R1' }], [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, invite: 'sbi_x', name: 'Ada' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked, [['/auth/token', { invite: 'sbi_x', name: 'Ada', refresh: true }], ['/auth/refresh', { refreshToken: 'R1' }]]);
  });

  test('a token of an identity provider is exchanged for a token of the room, and refreshed after that', async () => {
    answers = [
      [200, { token: 'U1', user: 'kc:ada' }],
      [200, { token: 'T1', refreshToken: 'R1', url: '/ws/signal' }],
      [200, { token: 'T2', refreshToken: 'R2' }],
    ];
    let provided = 0;
    const getToken = tokenSource({ url, userToken: async () => `P${(provided += 1)}`, room: 'a b/c', name: 'Ada' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked, [
      ['/auth/exchange', { token: 'P1' }],
      ['/api/rooms/a%20b%2Fc/join', { name: 'Ada', refresh: true }],
      ['/auth/refresh', { refreshToken: 'R1' }],
    ]);
    assert.deepEqual(proofs, [undefined, 'Bearer U1', undefined]);
  });

  test('when the refresh token is no longer valid, the identity provider is asked again', async () => {
    const exchange = (n) => [[200, { token: `U${n}` }], [200, { token: `T${n}`, refreshToken: `R${n}` }]];
    answers = [...exchange(1), [401, { code: 'refresh_expired' }], ...exchange(2)];
    let provided = 0;
    const getToken = tokenSource({ url, userToken: () => `P${(provided += 1)}`, room: 'r' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked.at(3), ['/auth/exchange', { token: 'P2' }]);
  });

  test('a refused exchange, a provider that fails and a missing room are errors of getToken', async () => {
    answers = [[401, { code: 'exchange_refused', detail: 'its signature is wrong' }]];
    await assert.rejects(tokenSource({ url, userToken: 'P', room: 'r' })(), { code: 'exchange_refused', retryable: false });
    answers = [[503, { code: 'unavailable' }]];
    await assert.rejects(tokenSource({ url, userToken: 'P', room: 'r' })(), { code: 'unavailable', retryable: true });
    const failing = () => Promise.reject(new Error('signed out'));
    await assert.rejects(tokenSource({ url, userToken: failing, room: 'r' })(), { message: 'signed out' });
    await assert.rejects(tokenSource({ url, userToken: 'P' })(), { code: 'no_token' });
    assert.deepEqual(paths(), ['/auth/exchange', '/auth/exchange']);
  });

  test('a guest requests a token for each call', async () => {
    answers = [[200, { token: 'T1' }], [200, { token: 'T2' }]];
    const getToken = tokenSource({ url, room: 'r', name: 'Ada' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked[1], ['/auth/token', { room: 'r', name: 'Ada' }]);
  });

  test('a ticket is requested from the auth service', async () => {
    answers = [[200, { ticket: 'sbt_1', expiresIn: 30 }]];
    assert.equal(await ticketFor({ url, fetch, token: 'T' }), 'sbt_1');
    assert.deepEqual(asked, [['/auth/ticket', 'Bearer T']]);
  });

  test('a server that requires tickets gets tickets', async () => {
    answers = [[401, { code: 'ticket_required' }], [200, { ticket: 'sbt_1' }]];
    const { client, server: scripted, socket } = await connectClient({ url, fetch, getTicket: ticketFor });
    assert.equal(socket.protocols[1], 'token.T');
    const arrived = scripted.next();
    socket.end(1006);
    assert.equal((await arrived).protocols[1], 'token.sbt_1');
    assert.deepEqual(paths(), ['/ws/validate', '/auth/ticket']);
    client.leave();
  });

  test('without the option getTicket such a server ends the client', async () => {
    answers = [[401, { code: 'ticket_required' }], [401, { code: 'ticket_required' }]];
    const { server: scripted, socket, joined } = await connectClient({ url, fetch });
    const arrived = scripted.next();
    socket.end(1006);
    (await arrived).end(1006);
    await assert.rejects(joined, { code: 'ticket_required', retryable: false });
  });

  test('a used ticket is replaced each time', async () => {
    answers = [[401, { code: 'ticket_required' }], ...[1, 2].flatMap((n) => [[200, { ticket: `sbt_${n}` }], [401, { code: 'ticket_used' }]])];
    const { client, server: scripted, socket: first } = await connectClient({ url, fetch, getTicket: ticketFor });
    let socket = first;
    for (const ticket of ['sbt_1', 'sbt_2']) {
      const arrived = scripted.next();
      socket.end(1006);
      socket = await arrived;
      assert.equal(socket.protocols[1], `token.${ticket}`);
    }
    socket.open();
    socket.deliver(joinedFrame());
    assert.equal(client.state, 'open');
    client.leave();
  });
});
