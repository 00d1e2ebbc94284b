/** The client over a real socket and real HTTP, as in Node: `ws` on both ends, protocol by a dozen lines. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { SignalingClient, guestToken } from '../src/index.js';
import { joinedFrame } from './scripted.js';

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

test('in Node with ws: join, an acknowledged message, and a goodbye', async (t) => {
  const heard = [];
  const left = {};
  left.promise = new Promise((resolve) => (left.resolve = resolve));
  const url = await listen(t, (socket, request) => {
    assert.equal(socket.protocol, 'signalbox.v1');
    assert.match(request.headers['sec-websocket-protocol'], /token\.T/);
    socket.send(JSON.stringify(joinedFrame()));
    socket.on('message', (text) => {
      const frame = JSON.parse(text);
      heard.push(frame);
      if (frame.type === 'message') socket.send(JSON.stringify({ type: 'ack', id: frame.id }));
      if (frame.type === 'leave') left.resolve();
    });
  });
  const client = new SignalingClient({ url, getToken: () => 'T', WebSocket });
  assert.equal((await client.connect()).roomId, 'r');
  assert.deepEqual(await client.message({ hello: 1 }), { type: 'ack', id: 1 });
  client.leave();
  await left.promise;
  assert.deepEqual(heard.map(({ type }) => type), ['message', 'leave']);
});

test('a guest is told by the problem document why there is no token', async (t) => {
  const url = await listen(t, () => {}, (request, response) => {
    assert.equal(`${request.method} ${request.url}`, 'POST /auth/token');
    assert.equal(request.headers.authorization, undefined);
    response.writeHead(401, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'guests_off', title: 'Unauthorized', detail: 'Guests are switched off.', status: 401 }));
  });
  await assert.rejects(guestToken({ url, room: 'r' }), { code: 'guests_off', status: 401, message: 'Guests are switched off.', retryable: false });
});

test('a refused upgrade is explained by /ws/validate, with the token in a header', async (t) => {
  const url = await listen(t, () => {}, (request, response) => {
    assert.deepEqual([request.url, request.headers.authorization], ['/ws/validate', 'Bearer T']);
    response.writeHead(403, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'origin_not_allowed', status: 403 }));
  });
  class Refused extends WebSocket {
    constructor(address, protocols) {
      super(address.replace('/ws/signal', '/elsewhere'), protocols);
    }
  }
  const client = new SignalingClient({ url, getToken: () => 'T', WebSocket: Refused });
  await assert.rejects(client.connect(), { code: 'origin_not_allowed', status: 403 });
});
