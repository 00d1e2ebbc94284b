/**
 * The send queue with a small server that loses its store and its connections (docs/PROTOCOL.md,
 * section 3.2): in any order of events, each peer gets each message once and in order.
 */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { SendQueue } from '../src/send-queue.js';
import { seededRandom } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

const LOCAL = ['carol', 'dave'];
const REMOTE = ['bob', 'eve'];
const PEERS = [...LOCAL, ...REMOTE];

/**
 * Protects the order less than the protocol requires: it remembers only the first refused id. Each
 * id up to the last accepted one is a duplicate.
 */
class StrictServer {
  unavailable = false;
  /** Peer → the messages that it received. */
  delivered = new Map(PEERS.map((peer) => [peer, []]));
  #lastIds = new Map(PEERS.map((peer) => [peer, 0]));
  lastId = 0;
  /** The first refused id; all later ids are refused too. */
  #refused = null;
  /** The targets of refused messages while the store is unavailable. */
  #blocked = new Set();
  #directIds = new Set();
  #random;

  constructor(random) {
    this.#random = random;
  }

  handle({ id, to, data }) {
    const targets = to === undefined ? PEERS : [to];
    if (this.#refused !== null && id <= this.#refused) this.#forgetRefusals();
    if (id <= this.lastId || this.#directIds.has(id)) return { type: 'ack', id, duplicate: true };
    return this.unavailable ? this.#deliverDirectly(id, targets, data) : this.#append(id, targets, data);
  }

  /** Direct delivery to the peers of this node while the store is unavailable. */
  #deliverDirectly(id, targets, data) {
    const refuse = targets.some((peer) => REMOTE.includes(peer) || this.#blocked.has(peer));
    if (refuse) return this.#refuse(id, targets);
    // This must not raise `lastId`: an earlier refused message would then count as a duplicate.
    this.#directIds.add(id);
    this.#deliver(id, targets, data);
    return { type: 'ack', id, durable: false };
  }

  #append(id, targets, data) {
    if (this.#refused !== null) return this.#refuse(id, targets);
    // The store did not answer in time, so the outcome is unknown.
    const outcome = this.#random();
    if (outcome < 0.05) return this.#refuse(id, targets);
    this.lastId = id;
    this.#deliver(id, targets, data);
    if (outcome > 0.95) return this.#refuse(id, targets);
    return { type: 'ack', id };
  }

  #refuse(id, targets) {
    this.#refused ??= id;
    for (const peer of targets) this.#blocked.add(peer);
    return { type: 'error', id, code: 'unavailable', message: '', retryMs: 100 };
  }

  #forgetRefusals() {
    this.#refused = null;
    this.#blocked.clear();
  }

  /** Ignores duplicates, as the mailbox reader of a peer does. */
  #deliver(id, targets, data) {
    for (const peer of targets) {
      if (id <= this.#lastIds.get(peer)) continue;
      this.#lastIds.set(peer, id);
      this.delivered.get(peer).push(data);
    }
  }

  /** A new connection, perhaps on another node, which knows the appended messages. */
  resume() {
    this.#forgetRefusals();
    if (this.#random() < 0.5) this.#directIds.clear();
    return this.lastId;
  }
}

function run(seed, steps) {
  const random = seededRandom(seed);
  Math.random = random;
  const server = new StrictServer(random);
  const [wire, replies, wanted] = [[], [], new Map(PEERS.map((peer) => [peer, []]))];
  const failures = [];
  const queue = new SendQueue((text) => wire.push(JSON.parse(text)), 1000);
  const receive = () => wire.length > 0 && replies.push(server.handle(wire.shift()));
  const reply = () => replies.length > 0 && queue.onReply(replies.shift());
  const send = (data) => {
    const to = random() < 0.15 ? undefined : PEERS[Math.floor(random() * PEERS.length)];
    for (const peer of to === undefined ? PEERS : [to]) wanted.get(peer).push(data);
    queue.push({ type: 'message', to, data }).done.catch((error) => failures.push(error.code));
  };
  const loseConnection = () => {
    if (server.unavailable) return; // no resume without the store
    queue.pause();
    wire.length = replies.length = 0;
    queue.resume(server.resume());
    queue.open(1e6);
  };
  queue.open(1e6);
  for (let step = 0; step < steps; step += 1) {
    const action = random();
    if (action < 0.3) send(step);
    else if (action < 0.6) receive();
    else if (action < 0.85) reply();
    else if (action < 0.95) mock.timers.tick(Math.floor(random() * 80));
    else if (action < 0.985) server.unavailable = !server.unavailable;
    else loseConnection();
  }
  server.unavailable = false;
  for (let round = 0; queue.size > 0 && round < 100_000; round += 1) if (!receive() && !reply()) mock.timers.tick(50);
  return { server, wanted, queue, failures };
}

test('every message reaches each target once and in order, whatever the store and the connection do', () => {
  mockTime();
  try {
    for (let seed = 1; seed <= 500; seed += 1) {
      const { server, wanted, queue, failures } = run(seed, 300);
      assert.equal(queue.size, 0, `seed ${seed}: a message has no reply`);
      assert.deepEqual(failures, [], `seed ${seed}`);
      for (const peer of PEERS) assert.deepEqual(server.delivered.get(peer), wanted.get(peer), `seed ${seed}: ${peer}`);
    }
  } finally {
    restoreTime();
  }
});
