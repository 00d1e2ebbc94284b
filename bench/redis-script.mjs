// What the script that appends a message costs Redis, part by part: its arguments alone, the five
// calls that it makes of Redis, and the whole. It measures the CPU time of a Redis server of its own,
// which nothing else uses, so a busy machine changes little.
//   node bench/redis-script.mjs

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PAIRS = 400;
const BODY = 'x'.repeat(1500);
const ROUNDS = 4;
const CALLS_PER_ROUND = 4096;

const read = (/** @type {string} */ name) =>
  readFileSync(
    fileURLToPath(new URL(`../shared/rooms/src/store/redis/lua/${name}.lua`, import.meta.url)),
    'utf8',
  );

/** The command as Redis reads it. */
const encode = (/** @type {(string | Buffer)[]} */ ...parts) =>
  Buffer.concat([
    Buffer.from(`*${parts.length}\r\n`),
    ...parts.flatMap((part) => [Buffer.from(`$${Buffer.byteLength(part)}\r\n`), Buffer.from(part), Buffer.from('\r\n')]),
  ]);

/** A connection that sends commands and reads their replies in order. */
async function openConnection(/** @type {string} */ path) {
  const socket = connect(path);
  await once(socket, 'connect');
  let unread = Buffer.alloc(0);
  /** @type {{ resolve: (reply: any) => void, reject: (error: Error) => void }[]} */
  const waiting = [];
  /** The reply at an offset and the offset behind it; none if it is not complete. */
  const parse = (/** @type {number} */ at) => {
    const lineEnd = unread.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const [kind, line, next] = [unread[at], unread.toString('latin1', at + 1, lineEnd), lineEnd + 2];
    if (kind === 0x24) {
      if (line === '-1') return { reply: null, next };
      const end = next + Number(line);
      return end + 2 <= unread.length ? { reply: unread.toString('utf8', next, end), next: end + 2 } : undefined;
    }
    if (kind !== 0x2a) return { reply: kind === 0x2d ? new Error(line) : line, next };
    const reply = [];
    let behind = next;
    for (let index = 0; index < Number(line); index += 1) {
      const item = parse(behind);
      if (!item) return undefined;
      reply.push(item.reply);
      behind = item.next;
    }
    return { reply, next: behind };
  };
  socket.on('data', (data) => {
    unread = Buffer.concat([unread, data]);
    for (let parsed = parse(0); parsed; parsed = parse(0)) {
      unread = unread.subarray(parsed.next);
      const { reply } = parsed;
      const call = waiting.shift();
      if (reply instanceof Error) call?.reject(reply);
      else call?.resolve(reply);
    }
  });
  return {
    socket,
    call: (/** @type {(string | Buffer)[]} */ ...parts) => {
      // What is called in one turn is written at once.
      if (!socket.writableCorked) {
        socket.cork();
        process.nextTick(() => socket.uncork());
      }
      socket.write(encode(...parts));
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
  };
}

const folder = mkdtempSync(join(tmpdir(), 'signalbox-redis-script-'));
const path = join(folder, 'redis.sock');
const server = spawn('redis-server', ['--port', '0', '--unixsocket', path, '--save', '', '--dir', folder]);
try {
  await new Promise((resolve, reject) => {
    server.on('error', reject);
    server.stdout.on('data', (text) => /ready to accept/i.test(String(text)) && resolve(undefined));
  });
  const { call } = await openConnection(path);
  const subscriber = await openConnection(path);
  subscriber.socket.removeAllListeners('data').resume();
  subscriber.socket.write(encode('SSUBSCRIBE', 'sb:node:{7}:n1', 'sb:node:{7}:n2'));
  const replicationId = /master_replid:(\w+)/.exec(await call('INFO', 'replication'))?.[1] ?? '';

  const cpuMicros = async () => {
    const info = await call('INFO', 'cpu');
    const seconds = (/** @type {string} */ name) => Number(new RegExp(`used_cpu_${name}:([\\d.]+)`).exec(info)?.[1]);
    return (seconds('sys') + seconds('user')) * 1e6;
  };
  const limits = Buffer.alloc(64);
  [1000, 1 << 22, 1 << 20, 1 << 24, 1 << 24, 60_000, 4000, 86_400_000].forEach((limit, index) =>
    limits.writeDoubleBE(limit, 8 * index),
  );

  /** Prints the CPU time of one message: the least of some rounds. `batch` messages are one call. */
  const measure = async (
    /** @type {string} */ name,
    /** @type {string} */ script,
    /** @type {{ batch?: number, pipeline?: number }} */ { batch = 1, pipeline = 16 } = {},
  ) => {
    await call('FLUSHALL');
    for (let pair = 0; pair < PAIRS; pair += 1) {
      await call('HSET', `sb:room:2:{7}:r${pair}`, 'lin', replicationId, 'hl', '1', 'ver', '5', 'o:a', 'n1 1 100', 'o:b', 'n2 1 100');
    }
    const hash = await call('SCRIPT', 'LOAD', script);
    const sent = Array.from({ length: PAIRS }, () => ({ a: 0, b: 0 }));
    let turn = 0;
    const callOnce = () => {
      const [pair, sender, target] = [Math.floor(turn / 2) % PAIRS, turn % 2 ? 'b' : 'a', turn % 2 ? 'a' : 'b'];
      turn += 1;
      const room = `r${pair}`;
      const id = sent[pair][sender] + 1;
      sent[pair][sender] += batch;
      const keys = [
        `sb:room:2:{7}:${room}`, 'sb:due:{7}', `sb:box:{7}:${room}:${sender}`, `sb:body:{7}:${room}`,
        `sb:body-held:{7}:${room}`, `sb:box:{7}:${room}:${target}`,
      ];
      const messages = Array.from({ length: batch }, (_, index) => [`${id + index}`, '0', BODY, '1', target, '6']);
      return call(
        'EVALSHA', hash, `${keys.length}`, ...keys,
        sender, sender === 'a' ? 'n1' : 'n2', '1', '100', `${sent[pair][target]}`, `${id - 1}`, '', room, limits,
        'f'.repeat(32), '5', '', `${batch}`, ...messages.flat(), 'sb:node:{7}:', replicationId, '5', '-1', replicationId,
      );
    };
    const calls = Math.ceil(CALLS_PER_ROUND / batch / pipeline);
    let least = Infinity;
    for (let round = 0; round <= ROUNDS; round += 1) {
      const before = await cpuMicros();
      for (let index = 0; index < calls; index += 1) await Promise.all(Array.from({ length: pipeline }, callOnce));
      // The first round fills the mailboxes.
      if (round > 0) least = Math.min(least, ((await cpuMicros()) - before) / (calls * pipeline * batch));
    }
    console.log(`${name.padEnd(58)} ${least.toFixed(1).padStart(5)} µs`);
  };

  const common = read('common');
  const append = common + read('append');
  const calls = `
    redis.call('TIME')
    redis.call('HMGET', KEYS[1], 'lin', 'hl', 'ver', 'wb', 'o:' .. ARGV[1], 'm:' .. ARGV[1], 'o:' .. ARGV[18], 'm:' .. ARGV[18])
    local state = string.rep('x', 104)
    redis.call('XADD', KEYS[6], 'MINID', '100-' .. (ARGV[5] + 1), '100-' .. ARGV[14], 'f', ARGV[1], 'i', ARGV[14], 'k', 'f',
      't', '1700000000000', 'c', '1000', 'd', ARGV[16], 'm', '12', 's', '')
    redis.call('HSET', KEYS[1], 'm:' .. ARGV[1], state, 'm:' .. ARGV[18], state, 'wb', '1234')
    redis.call('SPUBLISH', ARGV[20] .. 'n1', ARGV[8] .. ' ' .. ARGV[1] .. ' ' .. ARGV[14] .. ' f ' .. ARGV[16])
    return { 'ok', ARGV[24], '100', { 'w' } }`;
  const [withoutPublish, oneField] = [
    append.replace(/^publish\(\)$/m, ''),
    append.replace(/'f', entry\.from,\s+'i', entry\.id, 'k', entry\.kind, 't', written_at, 'c', bytes, 'd', body, 'm', messages, 's', state\)\n\s+member\.is_trimmed/, "'d', body)\n member.is_trimmed"),
  ];
  if (withoutPublish === append || oneField === append) throw new Error('append.lua has changed: change the parts here');
  console.log('CPU time of Redis for a message of 1,500 bytes to a peer of another node');
  await measure('no script: the arguments, and a reply', "return { 'ok' }");
  await measure('the five calls of Redis alone, in a script without logic', calls);
  await measure('the script, without SPUBLISH', withoutPublish);
  await measure('the script, with an entry of one field', oneField);
  await measure('the script', append);
  await measure('the script, calls that come one by one', append, { pipeline: 1 });
  await measure('the script, four messages in a call', append, { batch: 4, pipeline: 4 });
  await measure('the script, eight messages in a call', append, { batch: 8, pipeline: 2 });
  process.exitCode = 0;
} finally {
  server.kill();
  await once(server, 'exit');
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
