/** Opens a WebSocket, drops it, comes back as the same peer, and leaves the room. */
import { SignalingClient } from './client/client.js';
import { request } from './client/http.js';
import { ticketFor } from './client/token-source.js';
import { refusalResult } from './access-step.js';

const DEADLINE_MS = 10_000;

/** The client reconnects after such a close, and the server keeps the peer. */
const LOST = 4000;

/**
 * @typedef {{ client: SignalingClient, sockets: WebSocket[] }} OpenSocket `sockets`: all that the
 *   client has opened
 */

/** @type {import('./step-runner.js').Step['run']} */
export async function checkUpgrade(context) {
  if (!context.access) return checkAddress(context);
  /** @type {WebSocket[]} */
  const sockets = [];
  const RecordedSocket = class extends WebSocket {
    /** @param {string | URL} address @param {string | string[]} [protocols] */
    constructor(address, protocols) {
      super(address, protocols);
      sockets.push(this);
    }
  };
  const began = performance.now();
  const { token } = context.access;
  const client = new SignalingClient({ url: context.url, getToken: () => token, getTicket: ticketFor, WebSocket: RecordedSocket });
  const error = await connect(client);
  if (error) {
    client.leave();
    return refusalResult(error);
  }
  context.socket = { client, sockets };
  return { outcome: 'upgraded', values: { ms: Math.round(performance.now() - began) } };
}

/** Connects. Returns the first error: a check does not try again. @param {SignalingClient} client */
function connect(client) {
  return withDeadline({ code: 'join_timeout' }, (resolve) => {
    client.on('state', ({ state, error }) => {
      if (error) resolve(error);
      else if (state === 'open' || state === 'lobby') resolve(null);
    });
    // The state has the error.
    client.connect().catch(() => {});
  });
}

/**
 * Without a token no WebSocket opens, but its address must lead to the server.
 *
 * @param {import('./step-runner.js').Context} context
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function checkAddress({ url }) {
  try {
    await request({ url }, 'ws/signal', 'code', {});
    return { outcome: 'unreadable' };
  } catch (error) {
    const { code } = /** @type {{ code?: string }} */ (error);
    return code === 'upgrade_required' ? { outcome: 'address_answers' } : refusalResult(error);
  }
}

/** @type {import('./step-runner.js').Step['run']} */
export async function checkResume({ access, socket }) {
  if (!access) return { outcome: 'needs_login' };
  if (!socket) return { outcome: 'no_socket' };
  const { client, sockets } = socket;
  try {
    return client.state === 'lobby' ? { outcome: 'in_lobby' } : await resume(client, () => sockets.at(-1)?.close(LOST));
  } finally {
    client.leave();
  }
}

/**
 * @param {SignalingClient} client
 * @param {() => void} drop
 * @returns {Promise<import('./step-runner.js').Result>}
 */
function resume(client, drop) {
  const began = performance.now();
  const { peerId } = client;
  return withDeadline({ outcome: 'not_resumed' }, (resolve) => {
    client.on('resumed', ({ recovered }) => {
      if (client.peerId !== peerId) resolve({ outcome: 'not_resumed' });
      else if (!recovered) resolve({ outcome: 'resumed_with_gap' });
      else resolve({ outcome: 'resumed', values: { ms: Math.round(performance.now() - began) } });
    });
    client.on('joined', () => resolve({ outcome: 'not_resumed' }));
    client.on('state', ({ state }) => state === 'closed' && resolve({ outcome: 'not_resumed' }));
    drop();
  });
}

/**
 * @template T, L
 * @param {L} late the result after the deadline
 * @param {(resolve: (result: T | L) => void) => void} start
 * @returns {Promise<T | L>}
 */
function withDeadline(late, start) {
  return new Promise((resolve) => {
    const deadline = setTimeout(() => resolve(late), DEADLINE_MS);
    start((result) => {
      clearTimeout(deadline);
      resolve(result);
    });
  });
}
