/**
 * Notices that a new connection finds no route. Without a candidate ICE never starts, so it never
 * fails either. Remembers what the relay servers (TURN) answered. Owns one timer; acts on nothing.
 */

/** ICE itself fails sooner, if it has candidates to check. */
const ROUTE_MS = 20_000;

/**
 * @typedef {'refused' | 'full' | 'unreachable'} RelayProblem `refused`: the relay server does not
 *   accept the credential; `full`: it has no free allocation; `unreachable`: it does not answer
 */

/** The answers of a relay server (RFC 8656, section 19), and 701 of browsers for no answer. */
const FULL = [486, 508];
const UNREACHABLE = 701;

export class RouteWatch {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Set<RelayProblem>} */
  #problems = new Set();
  #onNoRoute;

  /** @param {RTCPeerConnection} pc @param {() => void} onNoRoute repeated until {@link stop} */
  constructor(pc, onNoRoute) {
    this.#onNoRoute = onNoRoute;
    pc.addEventListener('icecandidateerror', (event) => this.#onCandidateError(/** @type {RTCPeerConnectionIceErrorEvent} */ (event)));
    pc.addEventListener('icecandidate', ({ candidate }) => candidate?.type === 'relay' && this.#problems.clear());
    this.#start();
  }

  /** The most telling problem of the relay servers; undefined if one of them works, or if none was needed yet. */
  get relayProblem() {
    return /** @type {const} */ (['refused', 'full', 'unreachable']).find((problem) => this.#problems.has(problem));
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #start() {
    this.#timer = setTimeout(() => {
      this.#start();
      this.#onNoRoute();
    }, ROUTE_MS);
  }

  /** @param {RTCPeerConnectionIceErrorEvent} event */
  #onCandidateError({ errorCode, url }) {
    // STUN servers are no relays; a call may do without them.
    if (!/^turns?:/.test(url ?? '')) return;
    if (FULL.includes(errorCode)) this.#problems.add('full');
    else this.#problems.add(errorCode === UNREACHABLE ? 'unreachable' : 'refused');
  }
}
