/**
 * Whether the network to one peer is poor, by the packets that arrive and the time of a round trip. It
 * takes several bad samples to become poor, and more good ones to end that, so that the text on a tile
 * does not flicker. Pure: the caller gives the statistics.
 */

/**
 * @typedef {{ received: number, lost: number, lostThere: number, roundTripMs: number }} NetworkSample
 *   packets since the connection began; `lostThere`: the share of the own packets that the peer misses
 */

/** Above these, speech has gaps, or people talk at the same time. */
const POOR = { loss: 0.1, roundTripMs: 800 };

/** Below all of these, the network is good again. */
const GOOD = { loss: 0.04, roundTripMs: 400 };

/** Samples in a row. */
const TO_POOR = 3;
const TO_GOOD = 4;

/** Fewer packets say nothing about the loss. */
const LEAST_PACKETS = 20;

export class NetworkQuality {
  isPoor = false;
  /** @type {NetworkSample | null} */
  #last = null;
  #inRow = 0;

  /** @param {NetworkSample} sample @returns {boolean} whether `isPoor` has changed */
  update(sample) {
    const last = this.#last;
    this.#last = sample;
    // A new connection counts from zero.
    if (!last || sample.received < last.received) return false;
    const lost = Math.max(0, sample.lost - last.lost);
    const packets = sample.received - last.received + lost;
    const loss = Math.max(packets >= LEAST_PACKETS ? lost / packets : 0, sample.lostThere);
    const isBad = loss > POOR.loss || sample.roundTripMs > POOR.roundTripMs;
    const isGood = loss < GOOD.loss && sample.roundTripMs < GOOD.roundTripMs;
    this.#inRow = (this.isPoor ? isGood : isBad) ? this.#inRow + 1 : 0;
    if (this.#inRow < (this.isPoor ? TO_GOOD : TO_POOR)) return false;
    this.isPoor = !this.isPoor;
    this.#inRow = 0;
    return true;
  }
}

/**
 * Reads a sample out of the statistics of a connection.
 *
 * @param {Iterable<[string, any]>} report
 * @returns {NetworkSample}
 */
export function readNetworkSample(report) {
  const sample = { received: 0, lost: 0, lostThere: 0, roundTripMs: 0 };
  for (const [, stats] of report) {
    if (stats.type === 'inbound-rtp') {
      sample.received += stats.packetsReceived ?? 0;
      sample.lost += stats.packetsLost ?? 0;
    } else if (stats.type === 'remote-inbound-rtp') {
      sample.lostThere = Math.max(sample.lostThere, stats.fractionLost ?? 0);
    } else if (stats.type === 'candidate-pair' && stats.nominated && stats.state === 'succeeded') {
      sample.roundTripMs = Math.max(sample.roundTripMs, (stats.currentRoundTripTime ?? 0) * 1_000);
    }
  }
  return sample;
}
