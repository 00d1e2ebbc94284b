// A real TURN server (coturn), and a NAT before it.

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { join } from 'node:path';
import { until } from './person.mjs';

/**
 * Starts coturn with UDP and TCP on one port. It relays to loopback, which is unsafe in production.
 * `address` is where it listens and relays.
 *
 * @param {import('./servers.mjs').TestSite} site
 * @param {string[]} secrets
 * @param {number} port
 * @param {{ tlsPort?: number, flags?: string[], address?: string }} [options] `tlsPort`: for TLS, with the certificate
 *   of the edge
 */
export async function startTurnServer(site, secrets, port, { tlsPort, flags = [], address = '127.0.0.1' } = {}) {
  const tls = tlsPort ? [`--tls-listening-port=${tlsPort}`, `--cert=${join(site.secrets, 'edge.crt')}`, `--pkey=${join(site.secrets, 'edge.key')}`] : ['--no-tls'];
  const child = site.startProcess('coturn', 'turnserver', [
    ...['-n', `--listening-ip=${address}`, `--relay-ip=${address}`, `--listening-port=${port}`, '--min-port=50000', '--max-port=50999'],
    ...['--use-auth-secret', ...secrets.map((one) => `--static-auth-secret=${one}`), '--realm=signalbox.test', '--fingerprint', '--stale-nonce=600'],
    ...['--allow-loopback-peers', '--no-multicast-peers', '--no-dtls', '--no-cli', '--no-rfc5780', ...tls, ...flags],
    ...[`--userdb=${site.dir}/turndb-${port}`, `--pidfile=${site.dir}/turn-${port}.pid`, '--log-file=stdout', '--simple-log'],
  ]);
  for (const listening of [flags.includes('--no-tcp') ? undefined : port, tlsPort]) {
    if (listening) await until('coturn listens', () => child.exitCode === null && isListening(listening, address));
  }
  return child;
}

function isListening(port, address) {
  return new Promise((resolve) => {
    const socket = connect(port, address, () => socket.end() && resolve(true)).on('error', () => resolve(false));
  });
}

/**
 * Forwards UDP to a server from other ports, as a NAT does: on loopback alone, a STUN server tells a
 * browser only what it knows already, and the browser makes no candidate of that.
 *
 * @returns {Promise<number>} the port for clients
 */
export function startNat(site, port) {
  const inside = createSocket('udp4');
  const outside = new Map();
  inside.on('message', (message, client) => {
    const key = `${client.address} ${client.port}`;
    if (!outside.has(key)) {
      const socket = createSocket('udp4');
      socket.on('message', (answer) => inside.send(answer, client.port, client.address)).on('error', () => {});
      outside.set(key, socket);
    }
    outside.get(key).send(message, port, '127.0.0.1');
  });
  inside.on('error', () => {});
  site.onClose(() => [inside, ...outside.values()].forEach((socket) => socket.close()));
  return new Promise((resolve) => inside.bind(0, '127.0.0.1', () => resolve(inside.address().port)));
}
