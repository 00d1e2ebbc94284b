/** Everything that a step may find, with its verdict. The texts of each outcome are in web/texts. */

/**
 * @typedef {'ok' | 'warning' | 'failed' | 'skipped'} Verdict
 * @typedef {keyof typeof OUTCOMES} Outcome
 * @typedef {'access' | 'upgrade' | 'resume' | 'clock' | 'stun' | 'turn-udp' | 'turn-tcp' | 'turn-tls' |
 *   'camera' | 'microphone'} StepId
 * @typedef {Record<string, string | number>} Values numbers and codes, never an address or a name
 */

/**
 * Keeps the names, so that a step can only return an outcome that exists.
 *
 * @template {string} Name
 * @param {Record<Name, Verdict>} table
 */
function outcomes(table) {
  return table;
}

export const OUTCOMES = outcomes({
  guest_accepted: 'ok',
  token_accepted: 'ok',
  no_login: 'warning',
  token_refused: 'failed',
  refused: 'failed',
  rate_limited: 'failed',
  busy: 'failed',
  unreachable: 'failed',
  unreadable: 'failed',
  upgraded: 'ok',
  address_answers: 'warning',
  no_upgrade: 'failed',
  socket_cut: 'failed',
  resumed: 'ok',
  resumed_with_gap: 'warning',
  not_resumed: 'failed',
  no_socket: 'skipped',
  in_lobby: 'skipped',
  needs_login: 'skipped',
  clock_right: 'ok',
  clock_ahead: 'warning',
  clock_behind: 'warning',
  no_date: 'skipped',
  stun_answered: 'ok',
  stun_without_nat: 'ok',
  stun_not_used: 'skipped',
  stun_missing: 'warning',
  stun_silent: 'failed',
  relayed: 'ok',
  relayed_by_some: 'warning',
  no_turn: 'warning',
  no_turn_but_required: 'failed',
  no_turn_url: 'skipped',
  turn_refused: 'failed',
  turn_full: 'failed',
  no_relay_address: 'failed',
  turn_unreachable: 'failed',
  turn_tls_unreachable: 'failed',
  ice_url_refused: 'failed',
  no_data: 'warning',
  no_data_but_required: 'failed',
  picture: 'ok',
  sound: 'ok',
  sound_not_measured: 'ok',
  no_picture: 'failed',
  silence: 'warning',
  device_refused_camera: 'failed',
  device_refused_microphone: 'failed',
  device_missing_camera: 'warning',
  device_missing_microphone: 'warning',
  device_in_use_camera: 'failed',
  device_in_use_microphone: 'failed',
  device_insecure_camera: 'failed',
  device_insecure_microphone: 'failed',
  device_unanswered: 'skipped',
  page_error: 'failed',
});
