/**
 * The send queue against a small server that loses its store and its connections (docs/PROTOCOL.md, section 3.2): whatever the order of
 * events, each peer gets each message once and in the order it was sent.
 */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { SendQueue } from '../src/queue.js';
import { dice } from './scripted.js';

const LOCAL = ['carol', 'dave'];
const REMOTE = ['bob', 'eve'];
const PEERS = [...LOCAL, ...REMOTE];

/** As strict as the protocol allows: it knows the first refused id only, and takes every id up to the last accepted one for a double. */
class Server {
  away = false;
  /** Peer → the texts it was shown. */
  shown = new Map(PEERS.map((peer) => [peer, []]));
  #heard = new Map(PEERS.map((peer) => [peer, 0]));
  lastId = 0;
  /** The first refused id, since when every later one is refused. */
  #refused = null;
  /** While the store is away: the targets of what was refused. */
  #held = new Set();
  #local = new Set();
  #random;

  constructor(random) {
    this.#random = random;
  }

  handle({ id, to, data }) {
    const targets = to === undefined ? PEERS : [to];
    if (this.#refused !== null && id <= this.#refused) this.#forgive();
    if (id <= this.lastId || this.#local.has(id)) return { type: 'ack', id, duplicate: true };
    return this.away ? this.#past(id, targets, data) : this.#through(id, targets, data);
  }

  /** The store is away: only to peers of this node, past the mailbox. */
  #past(id, targets, data) {
    const refuse = targets.some((peer) => REMOTE.includes(peer) || this.#held.has(peer));
    if (refuse) return this.#refuse(id, targets);
    // It does not raise `lastId`, or what was refused before it would be taken for a double.
    this.#local.add(id);
    this.#show(id, targets, data);
    return { type: 'ack', id, durable: false };
  }

  #through(id, targets, data) {
    if (this.#refused !== null) return this.#refuse(id, targets);
    // The answer of the store did not come, so nobody knows whether it took the message.
    const fate = this.#random();
    if (fate < 0.05) return this.#refuse(id, targets);
    this.lastId = id;
    this.#show(id, targets, data);
    if (fate > 0.95) return this.#refuse(id, targets);
    return { type: 'ack', id };
  }

  #refuse(id, targets) {
    this.#refused ??= id;
    for (const peer of targets) this.#held.add(peer);
    return { type: 'error', id, code: 'unavailable', message: '', retryMs: 100 };
  }

  #forgive() {
    this.#refused = null;
    this.#held.clear();
  }

  /** As the inbox of the peer does. */
  #show(id, targets, data) {
    for (const peer of targets) {
      if (id <= this.#heard.get(peer)) continue;
      this.#heard.set(peer, id);
      this.shown.get(peer).push(data);
    }
  }

  /** Another connection, perhaps on another node, which knows what is written. */
  resume() {
    this.#forgive();
    if (this.#random() < 0.5) this.#local.clear();
    return this.lastId;
  }
}

function run(seed, steps) {
  const random = dice(seed);
  const server = new Server(random);
  const [wire, answers, wanted] = [[], [], new Map(PEERS.map((peer) => [peer, []]))];
  const failures = [];
  const queue = new SendQueue((text) => wire.push(JSON.parse(text)), { capacity: 1000, random });
  const receive = () => wire.length > 0 && answers.push(server.handle(wire.shift()));
  const hear = () => answers.length > 0 && queue.answer(answers.shift());
  const send = (data) => {
    const to = random() < 0.15 ? undefined : PEERS[Math.floor(random() * PEERS.length)];
    for (const peer of to === undefined ? PEERS : [to]) wanted.get(peer).push(data);
    queue.push({ type: 'message', to, data }).done.catch((error) => failures.push(error.code));
  };
  const lose = () => {
    if (server.away) return; // nobody can come back now
    queue.pause();
    wire.length = answers.length = 0;
    queue.resume(server.resume());
    queue.open(1e6);
  };
  queue.open(1e6);
  for (let step = 0; step < steps; step += 1) {
    const what = random();
    if (what < 0.3) send(step);
    else if (what < 0.6) receive();
    else if (what < 0.85) hear();
    else if (what < 0.95) mock.timers.tick(Math.floor(random() * 80));
    else if (what < 0.985) server.away = !server.away;
    else lose();
  }
  server.away = false;
  for (let round = 0; queue.size > 0 && round < 100_000; round += 1) if (!receive() && !hear()) mock.timers.tick(50);
  return { server, wanted, queue, failures };
}

test('every send reaches each target once and in order, whatever the store and the connection do', () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    for (let seed = 1; seed <= 500; seed += 1) {
      const { server, wanted, queue, failures } = run(seed, 300);
      assert.equal(queue.size, 0, `seed ${seed}: something was never answered`);
      assert.deepEqual(failures, [], `seed ${seed}`);
      for (const peer of PEERS) assert.deepEqual(server.shown.get(peer), wanted.get(peer), `seed ${seed}: ${peer}`);
    }
  } finally {
    mock.timers.reset();
  }
});
