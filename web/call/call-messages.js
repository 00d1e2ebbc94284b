/**
 * The messages that call pages send each other through the server. Each is an object with a type of
 * this page. A message of another type is for another application and is ignored.
 */

/** @typedef {'chat' | 'reaction' | 'lower-hand'} CallMessageType */

const PREFIX = 'signalbox-call.';

/**
 * @param {import('./client/room.js').Room} room
 * @param {CallMessageType} type
 * @param {object} [content]
 * @param {string} [to] a peerId; default: all other people
 */
export function sendCallMessage(room, type, content = {}, to) {
  return room.client.message({ ...content, type: PREFIX + type }, to);
}

/**
 * @param {import('./client/room.js').Room} room
 * @param {CallMessageType} type
 * @param {(content: Record<string, unknown>, from: import('./client/client.js').PeerEntry) => void} listener
 *   the content has no type that one may trust
 * @param {AbortSignal} signal
 */
export function onCallMessage(room, type, listener, signal) {
  const onMessage = (/** @type {import('./client/messages.js').Message} */ { data, from }) => {
    const sender = room.client.peers.get(from ?? '');
    if (sender && isObject(data) && data.type === PREFIX + type) listener(data, sender);
  };
  room.client.on('message', onMessage, { signal });
}

/** @param {unknown} data @returns {data is Record<string, unknown>} */
function isObject(data) {
  return typeof data === 'object' && data !== null;
}
