/** The golden vectors that the server's tests read too: every frame it may send is understood and reaches its listeners. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { parseFrame } from '../src/index.js';
import { connectClient, joinedFrame } from './scripted.js';

const directory = new URL('../../../docs/schema/vectors/', import.meta.url);
const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.json')) : [];
const files = names.map((name) => ({ file: name, ...JSON.parse(readFileSync(new URL(name, directory), 'utf8')) }));

/** Frames that answer or end something instead of being an event of their own. */
const WITHOUT_EVENT = new Set(['ack', 'pong', 'duplicate']);

/** The name of the event where it is not the type of the frame. */
const EVENT = new Map([['waiting', 'lobby']]);

test('there are vectors to read', { skip: files.length === 0 && !process.env.CI && 'docs/schema/vectors is empty' }, () => {
  assert.ok(files.some(({ direction }) => direction === 'server'), 'no server vectors in docs/schema/vectors');
});

for (const { file, direction, cases } of files) {
  if (direction !== 'server') continue;
  for (const { name, frame, ok } of cases) {
    if (!ok) continue;
    test(`${file}: ${name}`, () => understands(frame));
  }
}

async function understands(frame) {
  const text = typeof frame === 'string' ? frame : JSON.stringify(frame);
  const { type, seq, id, code } = parseFrame(text);
  const { client, socket } = await connectClient();
  socket.open();
  if (type !== 'joined' && type !== 'waiting') {
    const peers = joinedFrame().peers;
    socket.say(joinedFrame({ seq: (seq ?? 1) - 1, peers }));
  }
  const heard = [];
  const event = EVENT.get(type) ?? type;
  const events = [event, 'error'];
  for (const name of new Set(events)) client.on(name, (detail) => heard.push([name, detail]));
  socket.say(text);
  const answersSend = type === 'error' && id !== undefined;
  const known = ['open', 'lobby'].includes(client.state) && isKnown(type);
  if (known && !WITHOUT_EVENT.has(type) && !answersSend) {
    assert.deepEqual(heard.map(([name]) => name), [event], `${type} reaches its listeners`);
    if (type === 'error') assert.equal(heard[0][1].code, code);
  } else {
    assert.deepEqual(heard, []);
  }
  client.leave();
}

function isKnown(type) {
  return /^(joined|resumed|offer|answer|pranswer|rollback|candidate|message|peer-(joined|updated|left|detached|attached)|notice|goaway|error|waiting|knock|knock-ended|room-updated|permissions|ice-servers|token-(expiring|refreshed))$/.test(type);
}
