/**
 * Notices that a connection receives no media any more. ICE needs up to 7 s to notice it, for
 * example after the network of the device has changed. Owns one timer; acts on nothing.
 */

const INTERVAL_MS = 1_000;

/** Shorter pauses occur on good connections. */
const SILENT_INTERVALS = 2;

export class PathWatch {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #packets = 0;
  /** Whether media arrived since the last report, and for how many intervals none arrived. */
  #flowed = false;
  #silent = 0;
  #pc;
  #onSilent;

  /** @param {RTCPeerConnection} pc @param {() => void} onSilent */
  constructor(pc, onSilent) {
    this.#pc = pc;
    this.#onSilent = onSilent;
  }

  start() {
    this.stop();
    this.#timer = setInterval(() => void this.#check(), INTERVAL_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#flowed = false;
  }

  async #check() {
    let packets = 0;
    for (const { type, packetsReceived } of (await this.#pc.getStats()).values()) if (type === 'inbound-rtp') packets += packetsReceived;
    const flows = packets !== this.#packets;
    this.#packets = packets;
    this.#silent = flows ? 0 : this.#silent + 1;
    if (flows) this.#flowed = true;
    // Without media there is no steady flow that could end.
    if (!this.#flowed || this.#silent < SILENT_INTERVALS) return;
    this.#flowed = false;
    this.#onSilent();
  }
}
