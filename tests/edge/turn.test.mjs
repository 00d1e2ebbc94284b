// The TURN server of docker-compose.yml: it relays UDP to public addresses, and does nothing else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect as connectTcp, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestSite, freePort, repo } from './harness.mjs';

/** The address that stands for the public address of the host. */
const OWN = '198.97.190.53';
const OTHER = '93.184.216.34';
const OTHER_V6 = '2606:2800:220:1::34';

// STUN and TURN (RFC 8489, RFC 8656, RFC 6062).
const METHOD = { allocate: 3, permission: 8, channelBind: 9, connect: 0xa };
const ATTRIBUTE = { username: 6, integrity: 8, error: 9, channel: 0xc, peer: 0x12, realm: 0x14, nonce: 0x15, relayed: 0x16, family: 0x17, transport: 0x19, mobility: 0x8030 };
const COOKIE = 0x2112a442;
const UDP = 17;
const TCP = 6;

const attribute = (type, value) => {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
};

/** The 16 bytes of an IPv6 address, or the 4 bytes of an IPv4 address. */
function addressBytes(address) {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head, tail] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const groups = tail === undefined ? head : [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail];
  return Buffer.from(groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]));
}

/** XOR-PEER-ADDRESS. */
function peerAddress(address, port, transaction) {
  const bytes = addressBytes(address);
  const mask = Buffer.concat([Buffer.from([0x21, 0x12, 0xa4, 0x42]), transaction]);
  const head = Buffer.from([0, bytes.length === 4 ? 1 : 2, 0, 0]);
  head.writeUInt16BE(port ^ (COOKIE >>> 16), 2);
  return attribute(ATTRIBUTE.peer, Buffer.concat([head, bytes.map((byte, n) => byte ^ mask[n])]));
}

/** A client with one socket, thus at most one allocation. */
class TurnClient {
  #socket;
  #login = { realm: '', nonce: Buffer.alloc(0) };

  constructor(port, secret, overTcp) {
    this.port = port;
    // A TCP server answers with one message per segment here.
    this.#socket = overTcp ? connectTcp(port, '127.0.0.1').on('data', (data) => this.#socket.emit('message', data)) : createSocket('udp4');
    this.send = overTcp ? (message) => this.#socket.write(message) : (message) => this.#socket.send(message, port, '127.0.0.1');
    this.username = `${Math.floor(Date.now() / 1000) + 600}:test`;
    this.password = createHmac('sha1', secret).update(this.username).digest('base64');
  }

  close() {
    (this.#socket.destroy ?? this.#socket.close).call(this.#socket);
  }

  /** Sends a request, with a login if the server asks for it. Returns 0, or the error code. */
  async request(method, attributes) {
    const code = await this.#send(method, attributes, false);
    return code === 401 || code === 438 ? this.#send(method, attributes, true) : code;
  }

  async #send(method, attributes, withLogin) {
    const transaction = randomBytes(12);
    const parts = attributes(transaction);
    const { realm, nonce } = this.#login;
    if (withLogin) {
      parts.push(attribute(ATTRIBUTE.username, Buffer.from(this.username)), attribute(ATTRIBUTE.realm, Buffer.from(realm)), attribute(ATTRIBUTE.nonce, nonce));
    }
    const body = Buffer.concat(parts);
    const head = Buffer.alloc(20);
    head.writeUInt16BE(method);
    head.writeUInt16BE(body.length + (withLogin ? 24 : 0), 2);
    head.writeUInt32BE(COOKIE, 4);
    transaction.copy(head, 8);
    const message = [head, body];
    if (withLogin) {
      const key = createHash('md5').update(`${this.username}:${realm}:${this.password}`).digest();
      message.push(attribute(ATTRIBUTE.integrity, createHmac('sha1', key).update(Buffer.concat(message)).digest()));
    }
    const answer = await this.#exchange(Buffer.concat(message), transaction);
    const found = readAttributes(answer);
    if (found.has(ATTRIBUTE.nonce)) this.#login = { realm: found.get(ATTRIBUTE.realm).toString(), nonce: found.get(ATTRIBUTE.nonce) };
    const error = found.get(ATTRIBUTE.error);
    return error === undefined ? 0 : error[2] * 100 + error[3];
  }

  #exchange(message, transaction) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer of the TURN server')), 10_000);
      const onMessage = (answer) => {
        if (!answer.subarray(8, 20).equals(transaction)) return;
        clearTimeout(timer);
        this.#socket.off('message', onMessage);
        resolve(answer);
      };
      this.#socket.on('message', onMessage);
      this.send(message);
    });
  }
}

function readAttributes(message) {
  const found = new Map();
  for (let at = 20; at + 4 <= message.length; ) {
    const length = message.readUInt16BE(at + 2);
    found.set(message.readUInt16BE(at), message.subarray(at + 4, at + 4 + length));
    at += 4 + length + ((4 - (length % 4)) % 4);
  }
  return found;
}

/** The arguments of the service `turn`, with the defaults of its variables and these values. */
function turnArguments(values) {
  const compose = readFileSync(join(repo, 'docker-compose.yml'), 'utf8');
  const [, service] = /\n {2}turn:\n([^]*?)\n {2}\w/.exec(compose);
  const [, list] = /\n {4}command:\n([^]*?)\n {4}\w/.exec(service);
  const lines = list.split('\n').map((line) => line.trim()).filter((line) => line.startsWith('- '));
  return lines.map((line) => line.slice(2).replace(/\$\{(\w+):-([^}]*)\}/g, (_, name, fallback) => values[name] ?? fallback));
}

describe('the TURN server', () => {
  const site = new TestSite();
  const clients = [];
  let servers;

  const startServer = async (values = {}) => {
    const port = await freePort();
    const settings = { TURN_PORT: `${port}`, TURN_EXTERNAL_IP: OWN, TURN_USER_QUOTA: '1000', ...values };
    const paths = { '/run/secrets/turnserver_conf': join(site.secrets, 'turnserver.conf') };
    const args = turnArguments(settings).map((arg) => paths[arg] ?? arg.replace('=/tmp/', `=${site.dir}/${port}-`));
    // The container has no addresses of its own: these two are of the test.
    const child = site.startProcess(`turn-${port}`, 'turnserver', [...args, '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', '--relay-ip=::1']);
    const server = { port, child };
    await site.waitForPort(port, child);
    return server;
  };
  const connect = (server, overTcp = false) => {
    const client = new TurnClient(server.port, site.secret('turn_secrets'), overTcp);
    clients.push(client);
    return client;
  };
  const transport = (protocol) => attribute(ATTRIBUTE.transport, Buffer.from([protocol, 0, 0, 0]));
  const family = (number) => attribute(ATTRIBUTE.family, Buffer.from([number, 0, 0, 0]));
  const allocate = (client, ...more) => client.request(METHOD.allocate, () => [transport(UDP), ...more]);
  const allocation = async (server, address) => {
    const client = connect(server);
    assert.equal(await allocate(client, ...(address.includes(':') ? [family(2)] : [])), 0, `an allocation for ${address}`);
    return client;
  };
  const permit = (client, address) => client.request(METHOD.permission, (transaction) => [peerAddress(address, 9, transaction)]);
  const bind = (client, address, number) =>
    client.request(METHOD.channelBind, (transaction) => [attribute(ATTRIBUTE.channel, Buffer.from([0x40, number, 0, 0])), peerAddress(address, 9, transaction)]);

  before(async () => {
    servers = { shipped: await startServer(), relayToRelay: await startServer({ TURN_OWN_ADDRESS: 'allowed' }) };
  });
  after(async () => {
    for (const client of clients) client.close();
    await site.close();
  });

  // The first and the last address of each special-purpose range (RFC 6890 and the registries that
  // it has founded).
  const SPECIAL = {
    'this network': ['0.0.0.0', '0.255.255.255'],
    'private use': ['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255', '192.168.0.0', '192.168.255.255'],
    'shared addresses': ['100.64.0.0', '100.127.255.255'],
    loopback: ['127.0.0.1', '127.255.255.255', '::1'],
    'link local': ['169.254.0.0', '169.254.169.254', '169.254.255.255', 'fe80::', 'febf:ffff::'],
    'protocol assignments': ['192.0.0.0', '192.0.0.255', '2001::', '2001:1ff:ffff::'],
    documentation: ['192.0.2.0', '192.0.2.255', '198.51.100.0', '203.0.113.255', '2001:db8::', '2001:db8:ffff::', '3fff::', '3fff:fff:ffff::'],
    '6to4': ['192.88.99.0', '192.88.99.255', '2002::', '2002:7f00:1::'],
    benchmarks: ['198.18.0.0', '198.19.255.255'],
    multicast: ['224.0.0.0', '239.255.255.255', 'ff02::1'],
    reserved: ['240.0.0.0', '255.255.255.255', '5f00::', 'fec0::', '4000::'],
    'IPv4 in IPv6': ['::', '::2', '::7f00:1', '::a00:0', '::a01:100', '::1:0', '::ffff:7f00:1', '::ffff:5db8:d822', '64:ff9b::7f00:1', '64:ff9b:1::a00:1'],
    'discard only': ['100::', '100::ffff'],
    'unique local': ['fc00::', 'fdff:ffff::'],
  };

  it('relays UDP to public addresses', async () => {
    for (const address of [OTHER, '1.1.1.1', '100.63.255.255', '172.32.0.1', '192.0.1.1', '198.20.0.1', '223.255.255.1', OTHER_V6, '2001:200::1', '2003::1']) {
      const client = await allocation(servers.shipped, address);
      assert.equal(await permit(client, address), 0, address);
      assert.equal(await bind(client, address, 1), 0, address);
    }
  });

  it('relays to no special-purpose address', async () => {
    for (const [kind, addresses] of Object.entries(SPECIAL)) {
      for (const address of addresses) {
        const client = await allocation(servers.shipped, address);
        assert.equal(await permit(client, address), 403, `${kind}: ${address}`);
        assert.equal(await bind(client, address, 1), 403, `${kind}: ${address}`);
      }
    }
  });

  it('relays to its own address only if the operator allows it', async () => {
    for (const [name, expected] of [['shipped', 403], ['relayToRelay', 0]]) {
      const client = await allocation(servers[name], OWN);
      assert.equal(await permit(client, OWN), expected, name);
    }
    const client = await allocation(servers.relayToRelay, OWN);
    for (const address of ['127.0.0.1', '10.0.0.1']) assert.equal(await permit(client, address), 403, address);
  });

  it('opens no TCP connection', async () => {
    const target = createServer();
    const port = await new Promise((resolve) => target.listen(0, '127.0.0.1', () => resolve(target.address().port)));
    target.on('connection', () => assert.fail('the TURN server has connected'));
    // A client that reaches the server over TCP may ask for a TCP relay, and may still relay UDP.
    const client = connect(servers.shipped, true);
    assert.equal(await client.request(METHOD.allocate, () => [transport(TCP)]), 442, 'Unsupported Transport Protocol');
    assert.equal(await allocate(client), 0);
    const refused = await client.request(METHOD.connect, (transaction) => [peerAddress('127.0.0.1', port, transaction)]);
    assert.notEqual(refused, 0, 'Connect without a TCP allocation');
    await new Promise((resolve) => target.close(resolve));
  });

  it('moves no allocation to another client', async () => {
    const client = connect(servers.shipped);
    const mobility = attribute(ATTRIBUTE.mobility, Buffer.alloc(0));
    assert.equal(await allocate(client, mobility), 405, 'Mobility Forbidden (RFC 8016)');
  });

  it('has no other listener', async () => {
    const listening = execFileSync('ss', ['-Hlntup'], { encoding: 'utf8' }).split('\n');
    for (const { port, child } of Object.values(servers)) {
      const own = listening.filter((line) => line.includes(`pid=${child.pid},`));
      const ports = new Set(own.map((line) => Number(line.trim().split(/\s+/)[4].split(':').pop())));
      assert.deepEqual([...ports].filter((open) => open !== port && (open < 49160 || open > 49999)), [], 'no CLI, web page or other STUN port');
      assert.ok(ports.has(port));
    }
  });

  it('gives nothing without a login', async () => {
    const stranger = connect(servers.shipped);
    stranger.password = 'wrong';
    assert.equal(await allocate(stranger), 401);
    const late = connect(servers.shipped);
    late.username = `${Math.floor(Date.now() / 1000) - 10}:test`;
    late.password = createHmac('sha1', site.secret('turn_secrets')).update(late.username).digest('base64');
    assert.equal(await allocate(late), 401, 'an expired credential');
  });
});
