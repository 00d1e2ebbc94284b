/**
 * Chooses the active speaker by how loud each person is. A short sound, or an equal voice, does not
 * take the place of the speaker. Pure: the caller gives levels and time.
 */

/** Levels are linear: 1 is the loudest sound. A quiet room is below this, a voice above. */
const VOICE = 0.02;

/** How much of a new level counts at once. */
const SMOOTHING = 0.4;

/** Who takes the place of a speaker must be this much louder. */
const LOUDER = 1.5;

/** A speaker keeps the place at least this long. */
const HOLD_MS = 1_500;

/** A pause between words is shorter. */
const PAUSE_MS = 1_200;

export class SpeakerDetector {
  /** The last person who spoke, also in silence. @type {string | null} */
  speaker = null;
  /** Whether the speaker speaks now. */
  isSpeaking = false;
  /** Id → smoothed level. @type {Map<string, number>} */
  #levels = new Map();
  #chosenAt = -Infinity;
  #heardAt = -Infinity;

  /**
   * @param {ReadonlyMap<string, number>} levels of all people, from 0 to 1
   * @param {number} now in milliseconds
   */
  update(levels, now) {
    const smoothed = [...levels].map(([id, level]) => /** @type {const} */ ([id, mix(this.#levels.get(id) ?? 0, level)]));
    this.#levels = new Map(smoothed);
    if (this.speaker !== null && !levels.has(this.speaker)) this.speaker = null;
    const current = this.speaker === null ? 0 : this.#levels.get(this.speaker) ?? 0;
    const [loudest, level] = smoothed.reduce((best, one) => (one[1] > best[1] ? one : best), ['', 0]);
    const mayChange = current < VOICE ? now - this.#heardAt >= PAUSE_MS || this.speaker === null : now - this.#chosenAt >= HOLD_MS && level > current * LOUDER;
    if (level >= VOICE && loudest !== this.speaker && mayChange) {
      this.speaker = loudest;
      this.#chosenAt = now;
    }
    if (this.speaker !== null && (this.#levels.get(this.speaker) ?? 0) >= VOICE) this.#heardAt = now;
    this.isSpeaking = this.speaker !== null && now - this.#heardAt < PAUSE_MS;
  }
}

/** @param {number} before @param {number} level */
function mix(before, level) {
  return before + (level - before) * SMOOTHING;
}
