/** Chooses the texts that depend on an event: what happened, why, and what to do next. */
import { language, text } from './texts.js';

/**
 * Returns why the call did not start or did not continue.
 *
 * @param {unknown} error
 * @param {string} room
 */
export function refusalText(error, room) {
  const { code = '', field, message = '' } = /** @type {{ code?: string, field?: string, message?: string }} */ (error ?? {});
  if (field === 'room') return text('refusal.bad_room');
  if (field === 'name') return text('refusal.bad_name');
  const key = `refusal.${code}`;
  if (language.has(key)) return text(key, { room });
  return text('refusal.other', { message: message || text('refusal.no_reason'), code: code || 'unknown' });
}

/**
 * Returns why an action of a moderator failed.
 *
 * @param {{ code?: string, message?: string }} error
 */
export function actionFailedText({ code, message }) {
  const key = `host.${code}`;
  return language.has(key) ? text(key) : text('host.failed', { message: message || text('host.no_answer') });
}

/** Returns why a message of the chat was not sent. @param {string} code */
export function chatFailedText(code) {
  return code === 'too_large' || code === 'not_permitted' ? text(`chat.${code}`) : text('chat.failed', { code });
}

/** @param {boolean} mayPublish @param {boolean} stopped by a moderator */
export function permissionText(mayPublish, stopped) {
  if (mayPublish) return '';
  return text(stopped ? 'permission.stopped' : 'permission.watch');
}

/** Error of `getUserMedia` → the text. @type {Record<string, import('./texts.js').TextKey>} */
const MEDIA_PROBLEMS = { NotAllowedError: 'media.blocked', NotFoundError: 'media.missing', NotReadableError: 'media.in_use' };

/**
 * Returns why there is no camera or microphone.
 *
 * @param {unknown} error
 */
export function mediaProblemText(error) {
  if (!navigator.mediaDevices) return text('media.insecure');
  return text(MEDIA_PROBLEMS[/** @type {{ name?: string }} */ (error)?.name ?? ''] ?? 'media.failed');
}

/**
 * Returns the text of the status line.
 *
 * @param {import('./client/index.js').ClientState} state
 * @param {number} others how many other people are here
 * @param {boolean} wasOpen whether the call has started
 * @param {string} [reason] the error code of the lost connection
 */
export function clientStateText(state, others, wasOpen, reason) {
  if (state === 'connecting' || state === 'waiting') {
    if (reason === 'shut_down' || reason === 'token_in_use') return text(`status.${reason}`);
    if (wasOpen) return text('status.reconnecting');
    return text(state === 'waiting' ? 'status.no_answer' : 'status.joining');
  }
  if (state !== 'open') return '';
  return others === 0 ? text('status.alone') : text('status.others', { count: others });
}

/**
 * Why a peer has no connection, or only a weak one. A failed connection whose reason is not known may
 * need a relay server.
 *
 * @param {import('./client/peer.js').PeerState} state
 * @param {string} name
 * @param {boolean} detached
 * @param {import('./client/index.js').TroubleCode | null} [trouble]
 */
export function peerStateText(state, name, detached, trouble) {
  // A new connection counts as failed as soon as the reason is known.
  const shown = state === 'connecting' && trouble ? 'failed' : state;
  switch (shown) {
    case 'connecting':
    case 'reconnecting':
      return text(`peer.${shown}`, { name });
    case 'failed':
      return text('peer.failed', { name, reason: text(trouble ? `trouble.${trouble}` : 'trouble.none') });
    default:
      return detached ? text('peer.weak', { name }) : '';
  }
}
