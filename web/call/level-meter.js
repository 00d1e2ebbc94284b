/**
 * Shows how loud the microphone is, so that the person sees that it works. Moves the bar with a
 * transform, which needs no layout. Owns the audio context.
 */

/** The quietest sound that the bar shows. */
const FLOOR_DB = -60;

export class LevelMeter {
  #bar;
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {MediaStreamTrack | null} */
  #track = null;
  #frame = 0;

  /** @param {HTMLElement} bar */
  constructor(bar) {
    this.#bar = bar;
    // Browsers may start no sound before the person does something.
    for (const name of ['pointerdown', 'keydown']) addEventListener(name, () => void this.#context?.resume());
  }

  /** Shows this track from now on; null shows silence. @param {MediaStreamTrack | null} track */
  watch(track) {
    if (track === this.#track) return;
    this.stop();
    this.#track = track;
    if (!track) return;
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1_024;
    this.#context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const show = () => {
      analyser.getFloatTimeDomainData(samples);
      this.#show(track.enabled ? levelOf(samples) : 0);
      this.#frame = requestAnimationFrame(show);
    };
    show();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    void this.#context?.close();
    this.#context = null;
    this.#track = null;
    this.#show(0);
  }

  /** @param {number} level from 0 to 1 */
  #show(level) {
    this.#bar.style.transform = `scaleX(${level.toFixed(3)})`;
  }
}

/** @param {Float32Array} samples */
function levelOf(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.min(Math.max(1 - (10 * Math.log10(power)) / FLOOR_DB, 0), 1);
}
