/**
 * What the page says, in one place: every sentence tells what happened, why, and what to do next. Owns wording, no state.
 */

/** What the server or the network refused, by code. @type {Record<string, (room: string) => string>} */
const REFUSALS = {
  room_full: (room) => `You could not join “${room}”, because it has as many people as it takes. Try again when someone has left, or choose another room name.`,
  user_limit: (room) => `You could not join “${room}”, because you are in it in too many tabs. Close one of them and try again.`,
  guests_off: () => 'You could not join, because this server does not admit guests. Ask whoever runs it to switch guests on, or come in through their own site.',
  room_not_allowed: (room) => `You could not join “${room}”, because this server does not let you into that room. Choose another room, or ask for access.`,
  origin_not_allowed: () => 'You could not join, because the server does not know the address of this page. Ask whoever runs it to add the address to its allowed origins.',
  host_not_allowed: () => 'You could not join, because the server does not answer to the name in the address bar. Open it by the name it was given.',
  unreachable: () => 'The server does not answer. Check your network connection and try again in a moment.',
  rate_limited: () => 'The server asked for a pause, because too much came from your network at once. Wait a minute and try again.',
  overloaded: () => 'The server has no place for another connection now. Try again in a minute.',
  draining: () => 'The server is being restarted. Try again in a moment.',
  unavailable: () => 'The server cannot reach its own storage just now. Try again in a moment.',
  replaced: () => 'This call goes on somewhere else, because you joined again from another place. Join here to bring it back.',
  token_expired: () => 'The call ended for you, because your permission to be in it ran out and could not be renewed. Join again, or ask whoever invited you for a new link.',
  token_in_use: () => 'You are in this call already, in another tab or on another device. Leave it there and try again here.',
  shut_down: () => 'Whoever runs this server has closed it for now. Try again later.',
  banned: (room) => `You may not join “${room}”, because you were banned. If you think that is a mistake, ask whoever runs it.`,
  revoked: (room) => `The call in “${room}” ended for you, because your permission was taken back. Ask whoever invited you for a new link.`,
  token_revoked: (room) => `You could not join “${room}”, because your permission was taken back. Ask whoever invited you for a new link.`,
  room_locked: (room) => `“${room}” is locked: nobody else is let in for now. Ask someone who is inside to unlock it, and try again.`,
  room_disabled: (room) => `“${room}” is switched off. Ask whoever runs it.`,
  room_not_started: (room) => `“${room}” has not begun yet. Come back when it is time.`,
  room_ended: (room) => `The call in “${room}” is over.`,
  address_denied: () => 'This server takes no connections from your network. Try from another one, or ask whoever runs the server.',
  denied: (room) => `You were not let into “${room}”. Ask whoever runs the call before you try again.`,
  invite_invalid: () => 'This invitation is not known here. Check that the link is whole, or ask for a new one.',
  invite_expired: () => 'This invitation has run out. Ask for a new one.',
  invite_used_up: () => 'This invitation was used as often as it may be. Ask for a new one.',
  removed: (room) => `A moderator removed you from “${room}”. Ask them before you come back.`,
  ended: (room) => `The call in “${room}” has ended. You can start a new one.`,
};

/**
 * Why the call did not begin or did not go on.
 *
 * @param {unknown} error
 * @param {string} room
 */
export function refusal(error, room) {
  const { code = '', field, message = '' } = /** @type {{ code?: string, field?: string, message?: string }} */ (error ?? {});
  if (field === 'room') return 'This room name cannot be used: it may have up to 64 letters, digits, and . _ ~ -, without spaces. Choose another.';
  if (field === 'name') return 'This name cannot be used: it may have up to 64 characters. Choose another.';
  const known = REFUSALS[code];
  return known?.(room) ?? `The call could not go on: ${message || 'no reason was given'} (${code || 'unknown'}). Reload the page to try again.`;
}

/**
 * Why something that a moderator asked for was not done.
 *
 * @param {{ code?: string, message?: string }} error
 */
export function notDone({ code, message }) {
  switch (code) {
    case 'not_permitted':
      return 'That was not done, because you may not do it, or not to this person.';
    case 'no_such_peer':
      return 'That was not needed any more: the person has left.';
    default:
      return `That was not done: ${message || 'the server did not answer'}. Try again.`;
  }
}

/** @param {string} name */
export function knocks(name) {
  return `${name} waits to be let in.`;
}

/** @param {boolean} mayPublish @param {boolean} muted by a moderator */
export function standing(mayPublish, muted) {
  if (mayPublish) return '';
  if (muted) return 'A moderator has muted you: the others neither hear nor see you until that is undone.';
  return 'You are here to watch: you see and hear the others, who neither hear nor see you.';
}

/**
 * Why there is no camera or microphone.
 *
 * @param {unknown} error
 */
export function mediaProblem(error) {
  if (!navigator.mediaDevices) {
    return 'Your browser gives no camera or microphone to this page, because its address is not secure. You still see and hear the others; open the page by https to be seen and heard.';
  }
  switch (/** @type {{ name?: string }} */ (error)?.name) {
    case 'NotAllowedError':
      return 'Your camera and microphone are blocked for this page. Without them you still see and hear the others; to be seen and heard, allow them beside the address bar and switch them on here.';
    case 'NotFoundError':
      return 'No camera or microphone was found. Without them you still see and hear the others; plug one in and switch it on here.';
    case 'NotReadableError':
      return 'Your camera or microphone is in use by another program. You still see and hear the others; close the other program and switch it on here.';
    default:
      return 'Your camera or microphone could not be started. You still see and hear the others, and can try again with the buttons.';
  }
}

/** @param {import('/client/index.js').ClientState} state @param {number} others @param {boolean} wasOpen @param {string} [why] */
export function clientState(state, others, wasOpen, why) {
  if (state === 'connecting' || state === 'waiting') {
    if (why === 'shut_down') return 'Whoever runs this server has closed it for now. Trying again…';
    if (why === 'token_in_use') return 'You are in this call already, in another tab or on another device. Trying again…';
    if (wasOpen) return 'Reconnecting to the server… The call goes on.';
    return state === 'waiting' ? 'The server does not answer. Trying again…' : 'Joining…';
  }
  if (state !== 'open') return '';
  if (others === 0) return 'You are the only one here. Send the link to whoever you want to talk to.';
  return others === 1 ? 'One other person is here.' : `${others} other people are here.`;
}

/** @param {import('/client/peer.js').PeerState} state @param {string} name @param {boolean} detached */
export function peerState(state, name, detached) {
  switch (state) {
    case 'connecting':
      return `Connecting to ${name}…`;
    case 'reconnecting':
      return `Reconnecting to ${name}…`;
    case 'failed':
      return `There is no way through to ${name} yet. Trying again…`;
    default:
      return detached ? `${name} has a weak connection…` : '';
  }
}
