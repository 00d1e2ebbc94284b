// The cost model of docs/SCALING.md: reads its table of figures and writes its tables of examples, so
// that the examples cannot differ from the figures.
//   node bench/cost-model.mjs            writes the examples
//   node bench/cost-model.mjs --check    fails if they do not follow from the figures

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = fileURLToPath(new URL('../docs/SCALING.md', import.meta.url));
const text = readFileSync(path, 'utf8');

/** The number of the row of the table of figures that begins with this name. */
function figure(name) {
  const row = text.split('\n').find((line) => line.startsWith(`| ${name} |`));
  const value = Number(row?.split('|')[2].replaceAll(',', ''));
  if (!Number.isFinite(value)) throw new Error(`docs/SCALING.md has no figure "${name}"`);
  return value;
}

const costs = {
  nodeMessage: figure('message, node'),
  redisMessage: figure('message, Redis'),
  nodeJoin: figure('join, node'),
  redisJoin: figure('join, Redis'),
  nodeIdle: figure('idle peer, node'),
  nodeMemory: figure('memory of a peer, node'),
  redisMemory: figure('memory of a peer, Redis'),
  nodeUpkeep: figure('upkeep, node'),
  redisUpkeep: figure('upkeep, Redis'),
};
const use = {
  roomSize: figure('peers in a room'),
  minutes: figure('minutes in a call'),
  messages: figure('messages to each other peer'),
  nodePeers: figure('peers of a node'),
  busy: figure('busy') / 100,
};

/** What this many peers at a time cost. */
function model(peers) {
  const joins = peers / (use.minutes * 60);
  const messages = joins * use.messages * (use.roomSize - 1);
  const nodes = Math.max(2, Math.ceil(peers / use.nodePeers)) + 1;
  const nodeCores = (joins * costs.nodeJoin + messages * costs.nodeMessage + peers * costs.nodeIdle) / 1e6 + nodes * costs.nodeUpkeep / 1e3;
  const redisCores = (joins * costs.redisJoin + messages * costs.redisMessage) / 1e6;
  const upkeepCores = nodes * costs.redisUpkeep / 1e3;
  return {
    peers,
    joins,
    messages,
    nodes,
    coresOfNode: nodeCores / (nodes - 1) / use.busy,
    memoryOfNode: peers / (nodes - 1) * costs.nodeMemory / 1024,
    redisCores: redisCores + upkeepCores,
    upkeepCores,
    shards: Math.max(1, Math.ceil((redisCores + upkeepCores) / use.busy)),
    redisMemory: peers * costs.redisMemory / 1024 ** 2,
    network: messages * 2 * 1.5 * 8 / 1024,
  };
}

const whole = (number) => Math.round(number).toLocaleString('en-US');
const short = (number) => (number < 10 ? number.toFixed(number < 1 ? 2 : 1) : whole(number));

const columns = [
  ['peers at a time', (it) => whole(it.peers)],
  ['joins/s', (it) => whole(it.joins)],
  ['messages/s', (it) => whole(it.messages)],
  ['nodes, one of them spare', (it) => whole(it.nodes)],
  ['cores of a node', (it) => short(it.coresOfNode)],
  ['MiB of a node for its peers', (it) => whole(it.memoryOfNode)],
  ['Redis cores, all shards', (it) => short(it.redisCores)],
  ['of them for upkeep', (it) => short(it.upkeepCores)],
  ['Redis shards', (it) => whole(it.shards)],
  ['GiB of Redis, all shards', (it) => short(it.redisMemory)],
  ['Mbit/s of Redis, each direction', (it) => whole(it.network)],
];

const rows = [10_000, 100_000, 1_000_000, 10_000_000].map(model);
const table = [
  `| | ${rows.map((row) => columns[0][1](row)).join(' | ')} |`,
  `|---|${'---:|'.repeat(rows.length)}`,
  ...columns.slice(1).map(([title, format]) => `| ${title} | ${rows.map(format).join(' | ')} |`),
].join('\n');

const written = text.replace(/(<!-- examples -->)[^]*?(<!-- end of examples -->)/, (_, begin, end) => `${begin}\n\n${table}\n\n${end}`);
if (process.argv[2] === '--check') {
  if (written !== text) {
    console.error('docs/SCALING.md: the examples do not follow from the figures; run node bench/cost-model.mjs');
    process.exitCode = 1;
  }
} else {
  writeFileSync(path, written);
}
