/** All texts of the page that depend on an event: what happened, why, and what to do next. */

/**
 * Error code → why the call did not start or did not continue.
 *
 * @type {Record<string, (room: string) => string>}
 */
const REFUSALS = {
  room_full: (room) => `You could not join “${room}”, because it has as many people as it takes. Try again when a person has left, or choose another room name.`,
  user_limit: (room) => `You could not join “${room}”, because you have it open in too many tabs. Close one of them and try again.`,
  guests_off: () => 'You could not join, because this server does not admit guests. Ask the operator to allow guests, or join through the site of the operator.',
  room_not_allowed: (room) => `You could not join “${room}”, because you have no access to that room. Choose another room, or ask for access.`,
  origin_not_allowed: () => 'You could not join, because the server does not allow the address of this page. Ask the operator to add it to the allowed origins.',
  host_not_allowed: () => 'You could not join, because the server does not accept the host name in the address bar. Use the host name that the operator gave you.',
  unreachable: () => 'The server does not answer. Check your network connection and try again in a moment.',
  rate_limited: () => 'The server refused the request, because your network sent too many. Wait a minute and try again.',
  overloaded: () => 'The server is full. Try again in a minute.',
  draining: () => 'The server restarts. Try again in a moment.',
  unavailable: () => 'The server cannot reach its store. Try again in a moment.',
  replaced: () => 'The call ended here, because you joined it on another page or device. Join again to continue here.',
  token_expired: () => 'The call ended for you, because your access expired and could not be renewed. Join again, or ask for a new link.',
  token_in_use: () => 'You are in this call already, in another tab or on another device. Leave it there and try again.',
  shut_down: () => 'The operator has closed this server for now. Try again later.',
  banned: (room) => `You may not join “${room}”, because you are banned. If this is a mistake, ask the operator.`,
  revoked: (room) => `The call in “${room}” ended for you, because your access was revoked. Ask for a new link.`,
  token_revoked: (room) => `You could not join “${room}”, because your access was revoked. Ask for a new link.`,
  room_locked: (room) => `“${room}” is locked, so no new person can join. Ask a moderator to unlock it, and try again.`,
  room_disabled: (room) => `“${room}” is disabled. Ask the operator.`,
  room_not_started: (room) => `“${room}” has not started yet. Try again at its start time.`,
  room_ended: (room) => `The call in “${room}” is over.`,
  address_denied: () => 'This server denies connections from your network. Use another network, or ask the operator.',
  denied: (room) => `A moderator did not admit you to “${room}”. Ask the moderator before you try again.`,
  invite_invalid: () => 'The server does not know this invitation. Check that the link is complete, or ask for a new one.',
  invite_expired: () => 'This invitation has expired. Ask for a new one.',
  invite_used_up: () => 'This invitation has no uses left. Ask for a new one.',
  removed: (room) => `A moderator removed you from “${room}”. Ask the moderator before you join again.`,
  ended: (room) => `The call in “${room}” has ended. You can start a new one.`,
  wrong_room: (room) => `You could not join “${room}”, because your invitation is for another room. Open the link of the invitation again.`,
};

/**
 * Returns why the call did not start or did not continue.
 *
 * @param {unknown} error
 * @param {string} room
 */
export function refusalText(error, room) {
  const { code = '', field, message = '' } = /** @type {{ code?: string, field?: string, message?: string }} */ (error ?? {});
  if (field === 'room') return 'This room name cannot be used: a room name has up to 64 of the letters A to Z and a to z, digits, and . _ ~ -, and is not just . or .. Choose another.';
  if (field === 'name') return 'This name cannot be used: a name has up to 64 characters. Choose another.';
  const known = REFUSALS[code];
  return known?.(room) ?? `The call could not continue: ${message || 'the server gave no reason'} (${code || 'unknown'}). Reload the page to try again.`;
}

/**
 * Returns why an action of a moderator failed.
 *
 * @param {{ code?: string, message?: string }} error
 */
export function actionFailedText({ code, message }) {
  switch (code) {
    case 'not_permitted':
      return 'The action failed, because you do not have the permission for it, or not for this person.';
    case 'no_such_peer':
      return 'The action was not necessary, because the person has left.';
    default:
      return `The action failed: ${message || 'the server did not answer'}. Try again.`;
  }
}

/** @param {string} name */
export function knockText(name) {
  return `${name} waits in the lobby.`;
}

/** @param {boolean} mayPublish @param {boolean} muted by a moderator */
export function permissionText(mayPublish, muted) {
  if (mayPublish) return '';
  if (muted) return 'A moderator has muted you. The others do not hear or see you until a moderator unmutes you.';
  return 'You are here to watch. You see and hear the others, but they do not see or hear you.';
}

/**
 * Returns why there is no camera or microphone.
 *
 * @param {unknown} error
 */
export function mediaProblemText(error) {
  if (!navigator.mediaDevices) {
    return 'Your browser does not allow a camera or microphone here, because the address of the page is not secure. You still see and hear the others. To be seen and heard, open the page with https.';
  }
  switch (/** @type {{ name?: string }} */ (error)?.name) {
    case 'NotAllowedError':
      return 'Your camera and microphone are blocked for this page. Without them you still see and hear the others. To be seen and heard, allow them next to the address bar and switch them on here.';
    case 'NotFoundError':
      return 'No camera or microphone was found. Without them you still see and hear the others. Connect one and switch it on here.';
    case 'NotReadableError':
      return 'Your camera or microphone is in use by another program. You still see and hear the others. Close the other program and switch the device on here.';
    default:
      return 'Your camera or microphone could not be started. You still see and hear the others. Use the buttons to try again.';
  }
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
    if (reason === 'shut_down') return 'The operator has closed this server for now. Trying again…';
    if (reason === 'token_in_use') return 'You are in this call already, in another tab or on another device. Trying again…';
    if (wasOpen) return 'Reconnecting to the server… The call goes on.';
    return state === 'waiting' ? 'The server does not answer. Trying again…' : 'Joining…';
  }
  if (state !== 'open') return '';
  if (others === 0) return 'You are the only one here. Send the link to the person you want to talk to.';
  return others === 1 ? 'One other person is here.' : `${others} other people are here.`;
}

/** @param {string} name */
export function noConnectionText(name) {
  return `Your browser could not create a connection to ${name}. Reload the page. If that does not help, use another browser.`;
}

/**
 * Code of a trouble → why no connection was found. A call without a trouble may need a relay server too.
 *
 * @type {Record<string, string>}
 */
const TROUBLES = {
  turn_refused: 'The relay server (TURN) refuses this server, or has no free place: tell the operator.',
  turn_unreachable: 'The relay server (TURN) does not answer: try another network, or tell the operator.',
  no_candidates: 'Your browser may not use the network for calls: check its extensions and a VPN.',
  no_relay: 'There is no direct way, and this server has no relay (TURN): try another network, or tell the operator.',
  udp_blocked: 'Your network blocks calls (UDP): try another network.',
  answer_missing: 'The other page does not answer: it may be asleep.',
};

/**
 * @param {import('./client/peer.js').PeerState} state
 * @param {string} name
 * @param {boolean} detached
 * @param {import('./client/index.js').TroubleCode | null} [trouble]
 */
export function peerStateText(state, name, detached, trouble) {
  switch (state === 'connecting' && trouble ? 'failed' : state) {
    case 'connecting':
      return `Connecting to ${name}…`;
    case 'reconnecting':
      return `Reconnecting to ${name}…`;
    case 'failed':
      return `There is no connection to ${name} yet. ${TROUBLES[trouble ?? ''] ?? 'If it stays so, one of you can try another network.'} Trying again…`;
    default:
      return detached ? `${name} has a weak connection…` : '';
  }
}
