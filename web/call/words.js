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

/** @param {'idle' | 'connecting' | 'open' | 'waiting' | 'closed'} state @param {number} others @param {boolean} wasOpen */
export function clientState(state, others, wasOpen) {
  if (state === 'connecting' || state === 'waiting') {
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
