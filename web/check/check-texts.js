/** All texts of the page. An outcome says what a step found, and what to do about it. */

/** @typedef {'ok' | 'warning' | 'failed' | 'skipped'} Verdict */

/** @type {Record<Verdict | 'waiting' | 'running', string>} */
export const VERDICT_NAMES = { waiting: 'Waiting', running: 'Running', ok: 'OK', warning: 'Warning', failed: 'Failed', skipped: 'Skipped' };

/** Step → its name, and what it does. */
export const STEP_TEXTS = {
  access: { name: 'Login', about: 'Asks for a guest token, or uses the token of the link.' },
  upgrade: { name: 'WebSocket', about: 'Opens a WebSocket to the server and joins a room.' },
  resume: { name: 'Resume', about: 'Drops the WebSocket and comes back as the same peer.' },
  clock: { name: 'Clock', about: 'Compares the clock of this device with that of the server.' },
  stun: { name: 'STUN', about: 'Asks for the address that this browser has on the internet.' },
  'turn-udp': { name: 'TURN over UDP', about: 'Sends data through a relay that is reached over UDP.' },
  'turn-tcp': { name: 'TURN over TCP', about: 'The same over TCP, for networks that block UDP.' },
  'turn-tls': { name: 'TURN over TLS', about: 'The same over TLS, for networks that allow only HTTPS.' },
  camera: { name: 'Camera', about: 'Asks for permission and waits for a picture.' },
  microphone: { name: 'Microphone', about: 'Asks for permission and listens: say a word.' },
};

/** @typedef {keyof typeof STEP_TEXTS} StepId */

/** @typedef {Record<string, string | number>} Values numbers and words, never an address or a name */

/**
 * @typedef {object} Outcome
 * @property {Verdict} verdict
 * @property {(values: Values) => string} says what was found, in at most 72 characters, which are two lines on a phone
 * @property {(values: Values) => string} [user] the next step of the person at this device
 * @property {(values: Values) => string} [operator] the next step of the operator
 */

const TELL_OPERATOR = () => 'Send the report to the operator: nothing on this device can help.';
const NOTHING_ON_SERVER = () => 'Nothing: the cause is on the device.';
const RUN_AGAIN_LATER = () => 'Wait a minute and run the check again.';
const CONFIGURE_TURN = () => 'Configure a TURN server: docs/DEPLOYMENT.md, section TURN.';
const OPEN_RELAY_PORTS = () => 'Open the relay ports of the TURN server in the firewall and check its external address; a call of two relays also needs TURN_OWN_ADDRESS=allowed.';

/**
 * Keeps the names, so that a step can only return an outcome that exists.
 *
 * @template {string} Name
 * @param {Record<Name, Outcome>} table
 */
function outcomes(table) {
  return table;
}

const ACCESS_OUTCOMES = outcomes({
  guest_accepted: { verdict: 'ok', says: () => 'The server gave a guest token.' },
  token_accepted: { verdict: 'ok', says: () => 'The server accepts the token of this link.' },
  no_login: {
    verdict: 'warning',
    says: () => 'No guest token: Resume, STUN and TURN need a login and are skipped.',
    user: () => 'Ask the operator for a link to this page that has a token.',
    operator: () => 'Get a token for a room of its own at POST /auth/token, and open this page with #token=TOKEN at the end of its address.',
  },
  token_refused: {
    verdict: 'failed',
    says: ({ code }) => `The server refuses the token of this link (${code}).`,
    user: () => 'Ask the operator for a new link.',
    operator: () => 'Make a new token; docs/PROTOCOL.md, section 1, explains the code.',
  },
  refused: {
    verdict: 'failed',
    says: ({ code }) => `The server refuses this browser (${code}).`,
    user: TELL_OPERATOR,
    operator: () => 'Look for the code in the log of the server, and in docs/TROUBLESHOOTING.md.',
  },
  rate_limited: {
    verdict: 'failed',
    says: () => 'This network has sent too many requests to the server.',
    user: RUN_AGAIN_LATER,
    operator: () => 'If many people share one address, raise the limits by address at the edge: docs/DEPLOYMENT.md, section The edge.',
  },
  busy: {
    verdict: 'failed',
    says: ({ code }) => `The server takes no connections now (${code}).`,
    user: RUN_AGAIN_LATER,
    operator: () => 'Check the health of the nodes and of Redis: docs/TROUBLESHOOTING.md.',
  },
  unreachable: {
    verdict: 'failed',
    says: () => 'The server does not answer.',
    user: () => 'Check the network connection of this device and run the check again.',
    operator: () => 'Check that the services run and that the edge reaches them: GET /health/ready on the server.',
  },
  unreadable: {
    verdict: 'failed',
    says: () => 'The answer does not come from Signalbox but from a proxy.',
    user: () => 'Try another network: a proxy of this one may answer in place of the server.',
    operator: () => 'Route /auth/, /ws/signal and /ws/validate to Signalbox: docs/DEPLOYMENT.md, section Another edge.',
  },
});

const SIGNALING_OUTCOMES = outcomes({
  upgraded: { verdict: 'ok', says: ({ ms }) => `A WebSocket opened and joined in ${ms} ms.` },
  address_answers: {
    verdict: 'warning',
    says: () => 'The address is reachable; a WebSocket opens only with a login.',
    user: () => 'Follow the advice for the login first.',
    operator: () => 'Run the check with a token, to see whether every proxy on the way passes WebSockets.',
  },
  no_upgrade: {
    verdict: 'failed',
    says: () => 'The server accepts the login, but no WebSocket opens.',
    user: () => 'Try another network, or switch off a VPN, proxy or filter that blocks WebSockets.',
    operator: () => 'Let every proxy pass the header Upgrade for /ws/signal: docs/DEPLOYMENT.md, section Another edge.',
  },
  socket_cut: {
    verdict: 'failed',
    says: () => 'The WebSocket stayed silent, or was cut.',
    user: () => 'Try another network, or switch off a VPN, proxy or filter that blocks WebSockets.',
    operator: () => 'Let every proxy pass the frames of WebSockets in both directions, without a buffer: docs/DEPLOYMENT.md, section Another edge.',
  },
  resumed: { verdict: 'ok', says: ({ ms }) => `The same peer was back in ${ms} ms.` },
  resumed_with_gap: {
    verdict: 'warning',
    says: () => 'The same peer is back, but messages may be lost.',
    user: RUN_AGAIN_LATER,
    operator: () => 'Check whether Redis has failed over or restarted: docs/GUARANTEES.md.',
  },
  not_resumed: {
    verdict: 'failed',
    says: () => 'The peer did not come back.',
    user: () => 'Try another network: this one may cut connections.',
    operator: () => 'Check that every proxy passes the header Sec-WebSocket-Protocol, and that all nodes have the same session key.',
  },
  no_socket: {
    verdict: 'skipped',
    says: () => 'Needs a WebSocket, and none is open.',
    user: () => 'Follow the advice for the WebSocket first.',
    operator: () => 'Follow the advice for the WebSocket first.',
  },
  in_lobby: {
    verdict: 'skipped',
    says: () => 'The peer waits in the lobby, so it cannot resume.',
    user: () => 'Ask the operator for a link with a token that needs no lobby.',
    operator: () => 'Make a token for a room without a lobby.',
  },
  needs_login: {
    verdict: 'skipped',
    says: () => 'Needs a login: see the first step.',
    user: () => 'Follow the advice for the login first.',
    operator: () => 'Follow the advice for the login first.',
  },
});

const CLOCK_OUTCOMES = outcomes({
  clock_right: { verdict: 'ok', says: () => 'The clock of this device is right.' },
  clock_wrong: {
    verdict: 'warning',
    says: ({ minutes, direction }) => `The clock of this device is ${minutes} min ${direction} the server.`,
    user: () => 'Set the clock of this device to automatic. Tokens of this server work all the same, because the server counts their life.',
    operator: () => 'If the device is right, correct the clock of the server: TURN servers, sign-in providers and applications that sign tokens compare with it.',
  },
  no_date: {
    verdict: 'skipped',
    says: () => 'The answer of the server has no date.',
    user: () => 'Compare the clock of this device with another one.',
    operator: () => 'Let the proxy pass or set the header Date.',
  },
});

const ICE_OUTCOMES = outcomes({
  stun_answered: { verdict: 'ok', says: ({ server, ms }) => `The ${server} server told this browser its address in ${ms} ms.` },
  stun_without_nat: { verdict: 'ok', says: ({ server }) => `The ${server} server answered. There is no NAT on the way.` },
  stun_not_used: {
    verdict: 'skipped',
    says: () => 'Not used: all media goes through TURN here.',
    user: () => 'Nothing: see the steps for TURN.',
    operator: () => 'Nothing, if ice.policy or the role is meant to be relay.',
  },
  stun_missing: {
    verdict: 'warning',
    says: () => 'The server names no STUN server.',
    user: TELL_OPERATOR,
    operator: () => 'Name a STUN server in ice.servers. Without one, only peers of the same network connect directly.',
  },
  stun_silent: {
    verdict: 'failed',
    says: ({ server }) => `The ${server} server does not answer over UDP.`,
    user: () => 'Try another network: this one may block UDP.',
    operator: () => 'Check the host and port in ice.servers, and that UDP reaches that port.',
  },
  relayed: { verdict: 'ok', says: ({ ms }) => `Data came through the relay in ${ms} ms.` },
  relayed_by_some: {
    verdict: 'warning',
    says: ({ working, count, transport }) => `Only ${working} of ${count} TURN servers work over ${transport}.`,
    user: TELL_OPERATOR,
    operator: () => 'Test each server of ice.turn: docs/TROUBLESHOOTING.md, section Check the relay.',
  },
  no_turn: {
    verdict: 'warning',
    says: () => 'The server names no TURN server.',
    user: () => 'If a call does not connect, try another network.',
    operator: CONFIGURE_TURN,
  },
  no_turn_but_required: {
    verdict: 'failed',
    says: () => 'All media must go through TURN, and there is no TURN server.',
    user: TELL_OPERATOR,
    operator: CONFIGURE_TURN,
  },
  no_turn_url: {
    verdict: 'skipped',
    says: ({ transport }) => `The server names no TURN server over ${transport}.`,
    user: () => 'Nothing, as long as another way through TURN works.',
    operator: ({ form }) => `Some networks need it: add a URL of the form ${form} to ice.turn.`,
  },
  turn_refused: {
    verdict: 'failed',
    says: () => 'The TURN server refuses the credentials of this server.',
    user: TELL_OPERATOR,
    operator: () => 'Use the same secret in the TURN server and in SIGNALBOX_TURN_SECRETS, and set the clocks of both machines.',
  },
  turn_full: {
    verdict: 'failed',
    says: () => 'The TURN server has no free place.',
    user: RUN_AGAIN_LATER,
    operator: () => 'Raise TURN_USER_QUOTA and TURN_TOTAL_QUOTA, or widen the range of relay ports.',
  },
  no_relay_address: {
    verdict: 'failed',
    says: () => 'The TURN server gave no relay address.',
    user: () => 'Try another network, or a later version of this browser, which says why.',
    operator: () => 'Compare the secret of the TURN server with SIGNALBOX_TURN_SECRETS, and check its host and port: docs/TROUBLESHOOTING.md, section Check the relay.',
  },
  turn_unreachable: {
    verdict: 'failed',
    says: ({ transport }) => `The TURN server does not answer over ${transport}.`,
    user: () => 'Try another network: this one may block the TURN server.',
    operator: ({ transport }) => `Check that the TURN server runs, that the firewall lets ${transport} in, and the host and port in ice.turn.`,
  },
  turn_tls_unreachable: {
    verdict: 'failed',
    says: () => 'The TURN server does not answer over TLS.',
    user: () => 'Try another network: this one may block the TURN server.',
    operator: () => 'Check that the TURN server listens for TLS, its certificate, the firewall, and the host and port in ice.turn.',
  },
  ice_url_refused: {
    verdict: 'failed',
    says: () => 'This browser does not accept the URL of the server.',
    user: () => 'Try another browser.',
    operator: () => 'Correct the URL in ice.turn or ice.servers: docs/CONFIGURATION.md.',
  },
  no_data: {
    verdict: 'warning',
    says: () => 'There is a relay address, but no data came through it.',
    user: () => 'If a call does not connect, try another network.',
    operator: OPEN_RELAY_PORTS,
  },
  no_data_but_required: {
    verdict: 'failed',
    says: () => 'All media must go through the relay, but no data does.',
    user: TELL_OPERATOR,
    operator: OPEN_RELAY_PORTS,
  },
});

const DEVICE_OUTCOMES = outcomes({
  picture: { verdict: 'ok', says: ({ width, height }) => `The camera sends pictures of ${width} × ${height}.` },
  sound: { verdict: 'ok', says: () => 'The microphone hears a sound.' },
  sound_not_measured: { verdict: 'ok', says: () => 'The microphone is open; this browser cannot measure its level.' },
  no_picture: {
    verdict: 'failed',
    says: () => 'The camera is open, but sends no picture.',
    user: () => 'Close other programs that use the camera, connect it again, and run the check again.',
    operator: NOTHING_ON_SERVER,
  },
  silence: {
    verdict: 'warning',
    says: () => 'The microphone is open, but heard nothing.',
    user: () => 'Run the check again and speak. If it stays silent, look for a mute switch or choose another microphone.',
    operator: NOTHING_ON_SERVER,
  },
  device_refused: {
    verdict: 'failed',
    says: ({ device }) => `The ${device} is blocked for this page.`,
    user: ({ device }) => `Allow the ${device} next to the address bar, and in the settings of the system, and run the check again.`,
    operator: () => 'Nothing, unless a proxy changes the header Permissions-Policy.',
  },
  device_missing: {
    verdict: 'warning',
    says: ({ device }) => `No ${device} was found.`,
    user: ({ device }) => `Connect a ${device} and run the check again. Without one you still see and hear the others.`,
    operator: NOTHING_ON_SERVER,
  },
  device_in_use: {
    verdict: 'failed',
    says: ({ device }) => `The ${device} could not be started.`,
    user: ({ device }) => `Close other programs that use the ${device}, and run the check again.`,
    operator: NOTHING_ON_SERVER,
  },
  device_insecure: {
    verdict: 'failed',
    says: ({ device }) => `Without https, the browser gives no ${device}.`,
    user: () => 'Open this page with https.',
    operator: () => 'Serve the page with TLS: docs/DEPLOYMENT.md.',
  },
  device_unanswered: {
    verdict: 'skipped',
    says: () => 'The question of the browser was not answered.',
    user: () => 'Run the check again and answer the question of the browser.',
    operator: NOTHING_ON_SERVER,
  },
  page_error: {
    verdict: 'failed',
    says: ({ error }) => `The step ended with an error of the page (${error}).`,
    user: () => 'Reload the page and run the check again, or use another browser.',
    operator: () => 'Report this as a fault of Signalbox, with the report.',
  },
});

/** Everything that a step may find. */
export const OUTCOMES = { ...ACCESS_OUTCOMES, ...SIGNALING_OUTCOMES, ...CLOCK_OUTCOMES, ...ICE_OUTCOMES, ...DEVICE_OUTCOMES };

/** @param {number} ended @param {number} count */
export function progressText(ended, count) {
  return `${ended} of ${count} steps have ended.`;
}

/** @param {Record<Verdict, number>} counts */
export function summaryText({ failed, warning, skipped }) {
  const parts = [
    failed > 0 && `${failed} failed`,
    warning > 0 && `${warning} with a warning`,
    skipped > 0 && `${skipped} skipped`,
  ].filter(Boolean);
  if (failed > 0) return `The check found a problem: ${parts.join(', ')}.`;
  if (parts.length > 0) return `The check found no failure: ${parts.join(', ')}.`;
  return 'All is well: calls work on this browser and this network.';
}

export const PAGE_TEXTS = {
  running: 'Checking… Answer the question of the browser about camera and microphone.',
  copied: 'The report is copied.',
  notCopied: 'The browser did not let the page copy. Copy the report below yourself.',
  noReport: 'There is no report yet. Start the check first.',
  nothingToDo: 'Nothing to do.',
  adviceLater: 'Advice for each step that is not OK appears here.',
  user: 'You: ',
  operator: 'Operator: ',
};
