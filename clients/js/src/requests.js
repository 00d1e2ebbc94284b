/**
 * Requests between two peers: a message that gets an answer. An entry point of its own,
 * `@signalbox/client/requests`. Both are frames of the type `message`, with data of a form that all
 * clients share (docs/PROTOCOL.md, section 4.5). Owns the requests of this side that wait.
 */
import { SignalingError } from './signaling-error.js';

/**
 * @typedef {import('./peer.js').Peer} Peer
 * @typedef {import('./room.js').Room} Room
 * @typedef {{ signalbox: 'request' | 'answer', id: number, data?: any,
 *   error?: { code: string, message: string } }} Envelope the data of a request or an answer
 */

/** The time for an answer. */
const ANSWER_MS = 10_000;

let lastId = 0;

/** What settles a request: `peerId id` → function. @type {Map<string, (answer: Partial<Envelope>) => void>} */
const pending = new Map();

/** The peers whose answers are read. @type {WeakSet<Peer>} */
const known = new WeakSet();

/**
 * Sends a request to a peer, and returns what its function of {@link answerRequests} returns.
 *
 * @param {Peer} peer
 * @param {unknown} data any JSON
 * @param {{ timeoutMs?: number }} [options]
 * @returns {Promise<any>} rejected with a {@link SignalingError}: `timeout`, `peer_left`, `refused`
 *   (there is no function), `handler_failed`, a code that the function throws, or why the request
 *   could not be sent
 */
export async function request(peer, data, { timeoutMs = ANSWER_MS } = {}) {
  if (!known.has(peer)) peer.on('exchange', (envelope) => envelope.signalbox === 'answer' && pending.get(`${peer.peerId} ${envelope.id}`)?.(envelope));
  known.add(peer);
  const id = (lastId += 1);
  const key = `${peer.peerId} ${id}`;
  const end = new AbortController();
  try {
    const { error, data: answer } = await new Promise((resolve, reject) => {
      const fail = (/** @type {string} */ code, /** @type {string} */ message) => resolve({ error: { code, message } });
      pending.set(key, resolve);
      const timer = setTimeout(() => fail('timeout', `The peer did not answer within ${timeoutMs} ms.`), timeoutMs);
      end.signal.addEventListener('abort', () => clearTimeout(timer));
      peer.send({ signalbox: 'request', id, data }).catch(reject);
      // It may have left already.
      peer.on('closed', () => fail('peer_left', 'The peer left before it answered.'), end);
    });
    if (error) throw new SignalingError(error.code, error.message);
    return answer;
  } finally {
    pending.delete(key);
    end.abort();
  }
}

/**
 * Answers the requests of the other peers of a room. Without a function they are refused.
 *
 * @param {Room} room
 * @param {((data: any, peer: Peer) => unknown) | null} answer returns the answer, or a promise of it.
 *   A `SignalingError` that it throws reaches the peer; of any other error the peer learns nothing
 * @returns {() => void} stops the answers
 */
export function answerRequests(room, answer) {
  const end = new AbortController();
  const refuse = () => {
    throw new SignalingError('refused', 'The peer answers no requests.');
  };
  const listen = (/** @type {Peer} */ peer) => peer.on('exchange', (envelope) => envelope.signalbox === 'request' && void reply(peer, envelope, answer ?? refuse), end);
  room.on('peer', listen, end);
  return () => end.abort();
}

/** @param {Peer} peer @param {Envelope} request @param {(data: any, peer: Peer) => unknown} answer */
async function reply(peer, { id, data }, answer) {
  try {
    await peer.send({ signalbox: 'answer', id, data: await answer(data, peer) });
  } catch (cause) {
    const { code, message } = cause instanceof SignalingError ? cause : { code: 'handler_failed', message: 'The peer could not handle the request.' };
    peer.send({ signalbox: 'answer', id, error: { code, message } }).catch(() => {});
  }
}
