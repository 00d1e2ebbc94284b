/** The client in Node with real sockets and HTTP; `ws` is used on both sides. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { SignalingClient, guestToken } from '../src/index.js';
import { joinedFrame } from './scripted-server.js';

async function listen(t, onConnection, onRequest) {
  const server = createServer(onRequest);
  const sockets = new WebSocketServer({ server, path: '/ws/signal' });
  sockets.on('connection', onConnection);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

test('with ws in Node a client joins, sends a message and leaves', async (t) => {
  const received = [];
  const left = {};
  left.promise = new Promise((resolve) => (left.resolve = resolve));
  const url = await listen(t, (socket, request) => {
    assert.equal(socket.protocol, 'signalbox.v1');
    assert.match(request.headers['sec-websocket-protocol'], /token\.T/);
    socket.send(JSON.stringify(joinedFrame()));
    socket.on('message', (text) => {
      const frame = JSON.parse(text);
      received.push(frame);
      if (frame.type === 'message') socket.send(JSON.stringify({ type: 'ack', id: frame.id }));
      if (frame.type === 'leave') left.resolve();
    });
  });
  const client = new SignalingClient({ url, getToken: () => 'T', WebSocket });
  assert.equal((await client.connect()).roomId, 'r');
  assert.deepEqual(await client.message({ hello: 1 }), { type: 'ack', id: 1 });
  client.leave();
  await left.promise;
  assert.deepEqual(received.map(({ type }) => type), ['message', 'leave']);
});

test('a guest without a token gets the reason from the problem details', async (t) => {
  const url = await listen(t, () => {}, (request, response) => {
    assert.equal(`${request.method} ${request.url}`, 'POST /auth/token');
    assert.equal(request.headers.authorization, undefined);
    response.writeHead(401, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'guests_off', title: 'Unauthorized', detail: 'Guests are switched off.', status: 401 }));
  });
  await assert.rejects(guestToken({ url, room: 'r' }), { code: 'guests_off', status: 401, message: 'Guests are switched off.', retryable: false });
});

test('the client asks /ws/validate for the reason of a refused upgrade, with the token in a header', async (t) => {
  const url = await listen(t, () => {}, (request, response) => {
    assert.deepEqual([request.url, request.headers.authorization], ['/ws/validate', 'Bearer T']);
    response.writeHead(403, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'origin_not_allowed', status: 403 }));
  });
  class RefusedSocket extends WebSocket {
    constructor(address, protocols) {
      super(address.replace('/ws/signal', '/elsewhere'), protocols);
    }
  }
  const client = new SignalingClient({ url, getToken: () => 'T', WebSocket: RefusedSocket });
  await assert.rejects(client.connect(), { code: 'origin_not_allowed', status: 403 });
});
