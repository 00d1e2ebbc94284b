/** The golden vectors of the protocol: the client emits the event of each server frame. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { connectClient, joinedFrame } from './scripted-server.js';

const directory = new URL('../../../docs/schema/vectors/', import.meta.url);
const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.json')) : [];
const files = names.map((name) => ({ file: name, ...JSON.parse(readFileSync(new URL(name, directory), 'utf8')) }));

/** Frames that are answers and not events. */
const WITHOUT_EVENT = new Set(['ack', 'pong', 'duplicate', 'superseded']);

/** Frame type → event name, if they differ. */
const EVENT = new Map([['waiting', 'lobby']]);

test('the folder contains vectors of the server', { skip: files.length === 0 && !process.env.CI && 'docs/schema/vectors is empty' }, () => {
  assert.ok(files.some(({ direction }) => direction === 'server'), 'no server vectors in docs/schema/vectors');
});

for (const { file, direction, cases } of files) {
  if (direction !== 'server') continue;
  for (const { name, frame, ok } of cases) {
    if (!ok) continue;
    test(`${file}: ${name}`, () => assertFrameIsHandled(frame));
  }
}

async function assertFrameIsHandled(frame) {
  const text = typeof frame === 'string' ? frame : JSON.stringify(frame);
  const { type, seq, id, code } = JSON.parse(text);
  const { client, socket } = await connectClient();
  socket.open();
  if (type !== 'joined' && type !== 'waiting') {
    const peers = joinedFrame().peers;
    socket.deliver(joinedFrame({ seq: (seq ?? 1) - 1, peers }));
  }
  const received = [];
  const event = EVENT.get(type) ?? type;
  const events = [event, 'error'];
  for (const name of new Set(events)) client.on(name, (detail) => received.push([name, detail]));
  socket.deliver(text);
  const answersSend = type === 'error' && id !== undefined;
  const known = ['open', 'lobby'].includes(client.state) && isKnown(type);
  if (known && !WITHOUT_EVENT.has(type) && !answersSend) {
    assert.deepEqual(received.map(([name]) => name), [event], `${type} reaches its listeners`);
    if (type === 'error') assert.equal(received[0][1].code, code);
  } else {
    assert.deepEqual(received, []);
  }
  client.leave();
}

function isKnown(type) {
  return /^(joined|resumed|offer|answer|pranswer|rollback|candidate|message|peer-(joined|updated|left|detached|attached)|notice|goaway|error|waiting|knock|knock-ended|lobby-updated|room-updated|permissions|ice-servers|token-(expiring|refreshed))$/.test(type);
}
