/** Tokens that are renewed on the open connection, and where they come from. The HTTP server is a real one. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, afterEach, before, beforeEach, describe, mock, test } from 'node:test';
import { SignalingError, tokenSource } from '../src/index.js';
import { connectClient, joinedFrame } from './scripted.js';

const settle = () => new Promise((resolve) => setImmediate(resolve));
const REFRESHED = { type: 'token-refreshed', expiresIn: 900_000, role: 'guest', permissions: ['publish', 'message', 'data'], resume: 'handle.3' };

/** A client in the room, and what it was told and told the server. */
async function inRoom(options, joined = {}) {
  const context = await connectClient(options);
  const { client, socket } = context;
  const errors = [];
  const expiring = [];
  client.on('error', (error) => errors.push(error.code));
  client.on('token-expiring', ({ expiresIn }) => expiring.push(expiresIn));
  socket.join({ resume: 'handle.1', ...joined });
  const shown = () => socket.frames('refresh').map(({ token }) => token);
  return { ...context, errors, expiring, shown };
}

/** A provider that answers in turn; what is no string is thrown. */
function provider(...answers) {
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
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
  afterEach(() => mock.timers.reset());

  test('before its end a token is asked for again and shown, and the new handle is the one to come back with', async () => {
    const { getToken } = provider('T1', 'T2');
    const { client, server, socket, shown, errors } = await inRoom({ getToken });
    const refreshed = client.next('token-refreshed');
    socket.say({ type: 'token-expiring', expiresIn: 60_000 });
    await settle();
    assert.deepEqual(shown(), ['T2']);
    socket.say(REFRESHED);
    assert.equal((await refreshed).expiresIn, 900_000);
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    assert.equal((await arrived).protocols[1], 'resume.handle.3');
    assert.deepEqual(errors, []);
  });

  test('a provider that fails is told, and asked again while there is time', async () => {
    const { getToken, asked } = provider('T1', new TypeError('network'), new SignalingError('unreachable'), 'T2');
    const { socket, shown, errors } = await inRoom({ getToken, random: () => 1 });
    socket.say({ type: 'token-expiring', expiresIn: 60_000 });
    await settle();
    assert.deepEqual([errors, asked.length], [['no_token'], 2]);
    await tick(1000);
    await tick(1999);
    assert.deepEqual([errors, asked.length], [['no_token', 'unreachable'], 3]);
    await tick(1);
    assert.deepEqual(shown(), ['T2']);
  });

  test('no attempt begins after the end of the token', async () => {
    const getToken = mock.fn(() => (getToken.mock.callCount() === 0 ? 'T1' : Promise.reject(new TypeError('network'))));
    const { socket, errors } = await inRoom({ getToken, random: () => 1 });
    socket.say({ type: 'token-expiring', expiresIn: 4000 });
    await settle();
    for (let second = 0; second < 60; second += 1) await tick(1000);
    assert.deepEqual(errors, ['no_token', 'no_token', 'no_token']);
  });

  test('who is refused a token is not asked again', async () => {
    const { getToken, asked } = provider('T1', new SignalingError('banned', 'no', { status: 403 }), 'T2');
    const { socket, errors } = await inRoom({ getToken });
    socket.say({ type: 'token-expiring', expiresIn: 60_000 });
    for (let second = 0; second < 60; second += 1) await tick(1000);
    assert.deepEqual([errors, asked.length], [['banned'], 2]);
  });

  for (const [how, answer, code] of [
    ['refuses', (socket) => socket.say({ type: 'error', code: 'bad_token', message: 'the signature is wrong', field: 'token' }), 'bad_token'],
    ['does not answer', () => mock.timers.tick(10_000), 'no_answer'],
  ]) {
    test(`a token that the server ${how} is told, and replaced by another one`, async () => {
      const { getToken } = provider('T1', 'T2', 'T3');
      const { socket, shown, errors } = await inRoom({ getToken });
      socket.say({ type: 'token-expiring', expiresIn: 60_000 });
      await settle();
      answer(socket);
      await settle();
      assert.deepEqual(errors, [code]);
      await tick(0);
      assert.deepEqual(shown(), ['T2', 'T3']);
    });
  }

  test('a token that comes when the connection is gone is not shown on the next one', async () => {
    let give;
    const getToken = mock.fn(() => (getToken.mock.callCount() === 0 ? 'T1' : new Promise((resolve) => (give = resolve))));
    const { server, socket, shown, errors } = await inRoom({ getToken });
    socket.say({ type: 'token-expiring', expiresIn: 60_000 });
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    const again = await arrived;
    again.resume();
    give('T2');
    await settle();
    assert.deepEqual([shown(), again.frames('refresh'), errors], [[], [], []]);
  });

  test('a refresh does not wait for a store that is away', async () => {
    const { getToken } = provider('T1', 'T2');
    const { client, socket, shown } = await inRoom({ getToken });
    client.message('x').catch(() => {});
    socket.say({ type: 'error', id: 1, code: 'unavailable', message: '', retryMs: 60_000 });
    socket.say({ type: 'token-expiring', expiresIn: 30_000 });
    await settle();
    assert.deepEqual(shown(), ['T2']);
  });

  test('a token that is a text is the application\'s to renew', async () => {
    const { client, server, socket, shown, expiring } = await inRoom({ getToken: undefined, token: 'T1' });
    assert.equal(socket.protocols[1], 'token.T1');
    socket.say({ type: 'token-expiring', expiresIn: 60_000 });
    await settle();
    assert.deepEqual([expiring, shown()], [[60_000], []]);
    const bad = client.refresh('bad');
    const good = client.refresh('T2');
    await settle();
    socket.say({ type: 'error', code: 'bad_token', message: 'no', field: 'token' });
    await assert.rejects(bad, { code: 'bad_token' });
    await settle();
    assert.deepEqual(shown(), ['bad', 'T2'], 'one at a time');
    socket.say(REFRESHED);
    await good;
    const arrived = server.next();
    socket.end(4004, 'session_gone');
    mock.timers.runAll();
    assert.equal((await arrived).protocols[1], 'token.T2');
    await assert.rejects(client.refresh('T3'), { code: 'lost' });
  });

  test('at the end of its token a peer joins anew with another one, as another peer', async () => {
    const { getToken } = provider('T1', 'T2');
    const { client, server, socket } = await inRoom({ getToken });
    const arrived = server.next();
    socket.end(4006, 'token_expired');
    assert.equal(client.state, 'waiting');
    mock.timers.runAll();
    assert.equal((await arrived).protocols[1], 'token.T2');
  });

  for (const [closeCode, code] of [[4008, 'shut_down'], [4009, 'token_in_use']]) {
    test(`${code} is waited out for as long as it asks`, async () => {
      const { socket, states } = await inRoom();
      socket.end(closeCode, `${code};7000`);
      const { state, retryInMs, error } = states.at(-1);
      assert.deepEqual([state, retryInMs, error.code], ['waiting', 7000, code]);
    });
  }

  for (const [closeCode, code] of [[4515, 'banned'], [4516, 'revoked'], [4517, 'room_locked'], [4518, 'room_disabled'], [4519, 'room_not_started'], [4520, 'address_denied'], [4521, 'denied']]) {
    test(`${closeCode} is the end, and the error says ${code}`, async () => {
      const { client, socket, states } = await inRoom();
      socket.end(closeCode, code);
      const { state, error } = states.at(-1);
      assert.deepEqual([state, error.code, error.closeCode, error.retryable, error instanceof SignalingError], ['closed', code, closeCode, false, true]);
      mock.timers.runAll();
      assert.equal(client.state, 'closed');
    });
  }
});

describe('from a server', () => {
  /** What the server is asked, and its answers in turn: `null` is a connection that breaks. */
  const asked = [];
  let answers = [];
  let server;
  let url;

  before(async () => {
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (part) => (body += part));
      request.on('end', () => {
        asked.push([request.url, body ? JSON.parse(body) : request.headers.authorization]);
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
  beforeEach(() => asked.splice(0));

  const paths = () => asked.map(([path]) => path);

  test('a refresh token is used once, and the next one after it', async () => {
    answers = [[200, { token: 'T2', refreshToken: 'R2' }], [200, { token: 'T3', refreshToken: 'R3' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    assert.deepEqual([await getToken(), await getToken(), await getToken()], ['T1', 'T2', 'T3']);
    assert.deepEqual(asked, [['/auth/refresh', { refreshToken: 'R1' }], ['/auth/refresh', { refreshToken: 'R2' }]]);
  });

  test('however many ask at once, the refresh token is used once', async () => {
    answers = [[200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    assert.deepEqual(await Promise.all([getToken(), getToken(), getToken()]), ['T2', 'T2', 'T2']);
    assert.equal(asked.length, 1);
  });

  test('an answer that was lost is asked for again with the same refresh token', async () => {
    answers = [null, [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    assert.equal(await getToken(), 'T2');
    assert.deepEqual(asked, [['/auth/refresh', { refreshToken: 'R1' }], ['/auth/refresh', { refreshToken: 'R1' }]]);
  });

  test('an answer that was lost for longer than the server repeats it makes the refresh token worthless', async (t) => {
    answers = [];
    let grants = 0;
    const getToken = tokenSource({ url, grant: () => ({ token: `T${(grants += 1)}`, refreshToken: 'R1' }) });
    await getToken();
    const now = Date.now;
    let ahead = 0;
    t.mock.method(Date, 'now', () => now() + (ahead += 5000));
    await assert.rejects(getToken(), { code: 'unreachable' });
    assert.equal(await getToken(), 'T2', 'the backend is asked, not the server with what may count as stolen');
    assert.deepEqual(paths(), ['/auth/refresh']);
  });

  test('a refresh token that is refused is forgotten, and the backend asked for another', async () => {
    answers = [[401, { code: 'refresh_expired' }]];
    let grants = 0;
    const getToken = tokenSource({ url, grant: () => ({ token: `T${(grants += 1)}`, refreshToken: 'R' }) });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
  });

  test('a server that is busy keeps the refresh token good', async () => {
    answers = [[503, { code: 'unavailable' }], [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, grant: () => ({ token: 'T1', refreshToken: 'R1' }) });
    await getToken();
    await assert.rejects(getToken(), { code: 'unavailable', retryable: true });
    assert.equal(await getToken(), 'T2');
  });

  test('an invitation is used once, and what comes of it is refreshed', async () => {
    answers = [[200, { token: 'T1', refreshToken: 'R1' }], [200, { token: 'T2', refreshToken: 'R2' }]];
    const getToken = tokenSource({ url, invite: 'sbi_x', name: 'Ada' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked, [['/auth/token', { invite: 'sbi_x', name: 'Ada', refresh: true }], ['/auth/refresh', { refreshToken: 'R1' }]]);
  });

  test('a guest asks for a token each time', async () => {
    answers = [[200, { token: 'T1' }], [200, { token: 'T2' }]];
    const getToken = tokenSource({ url, room: 'r', name: 'Ada' });
    assert.deepEqual([await getToken(), await getToken()], ['T1', 'T2']);
    assert.deepEqual(asked[1], ['/auth/token', { room: 'r', name: 'Ada' }]);
  });

  test('with tickets the token itself goes nowhere but to the auth service', async () => {
    answers = [[200, { ticket: 'sbt_1', expiresIn: 30 }]];
    const { client, socket } = await connectClient({ url, ticket: true });
    assert.equal(socket.protocols[1], 'token.sbt_1');
    client.leave();
    assert.deepEqual(asked, [['/auth/ticket', 'Bearer T']]);
  });

  test('a server that takes nothing but tickets is given them', async () => {
    answers = [[401, { code: 'ticket_required' }], [200, { ticket: 'sbt_1' }]];
    const { client, server: scripted, socket } = await connectClient({ url });
    assert.equal(socket.protocols[1], 'token.T');
    const arrived = scripted.next();
    socket.end(1006);
    assert.equal((await arrived).protocols[1], 'token.sbt_1');
    assert.deepEqual(paths(), ['/ws/validate', '/auth/ticket']);
    client.leave();
  });

  test('a ticket that was used on the way is replaced, however often that happens', async () => {
    answers = [1, 2, 3].flatMap((n) => [[200, { ticket: `sbt_${n}` }], [401, { code: 'ticket_used' }]]);
    const { client, server: scripted, socket: first } = await connectClient({ url, ticket: true });
    let socket = first;
    for (const ticket of ['sbt_2', 'sbt_3']) {
      const arrived = scripted.next();
      socket.end(1006);
      socket = await arrived;
      assert.equal(socket.protocols[1], `token.${ticket}`);
    }
    socket.open();
    socket.say(joinedFrame());
    assert.equal(client.state, 'open');
    client.leave();
  });
});
