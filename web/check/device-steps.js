/** Opens the camera and the microphone with one question, waits for a picture and a sound, and closes them. */

/** A person reads the question of the browser first. */
const ANSWER_MS = 60_000;
const PICTURE_MS = 5_000;
const SOUND_MS = 4_000;

/** For so long the page shows the level, even if the first sound comes at once. */
const LEVEL_MS = 1_500;
const SAMPLE_MS = 100;

/** The loudest sample of a quiet room is below it. */
const AUDIBLE = 0.01;

/**
 * @typedef {'camera' | 'microphone'} Device
 * @typedef {{ track: MediaStreamTrack } | { error: string }} OpenDevice `error`: the name of the exception
 * @typedef {Record<Device, OpenDevice>} Devices
 */

/** @type {import('./step-runner.js').Step['run']} */
export function checkCamera(context) {
  return checkDevice(context, 'camera', waitForPicture);
}

/** @type {import('./step-runner.js').Step['run']} */
export function checkMicrophone(context) {
  return checkDevice(context, 'microphone', (track) => waitForSound(track, context.onLevel));
}

/**
 * @param {import('./step-runner.js').Context} context
 * @param {Device} device
 * @param {(track: MediaStreamTrack) => Promise<import('./step-runner.js').Result>} measure
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function checkDevice(context, device, measure) {
  if (!navigator.mediaDevices) return { outcome: `device_insecure_${device}` };
  context.devices ??= openDevices();
  const opened = (await context.devices)[device];
  if ('error' in opened) return { outcome: outcomeOfError(opened.error, device) };
  try {
    return await measure(opened.track);
  } finally {
    opened.track.stop();
  }
}

/** @param {string} name of the exception @param {Device} device @returns {import('./check-outcomes.js').Outcome} */
function outcomeOfError(name, device) {
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `device_refused_${device}`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `device_missing_${device}`;
    case 'unanswered':
      return 'device_unanswered';
    default:
      return `device_in_use_${device}`;
  }
}

/** One question for both. If that fails, one of the two may still work. @returns {Promise<Devices>} */
async function openDevices() {
  try {
    const stream = await requestMedia({ video: true, audio: true });
    const [camera, microphone] = [stream.getVideoTracks()[0], stream.getAudioTracks()[0]];
    if (camera && microphone) return { camera: { track: camera }, microphone: { track: microphone } };
  } catch (error) {
    if (/** @type {Error} */ (error).name === 'unanswered') return { camera: { error: 'unanswered' }, microphone: { error: 'unanswered' } };
  }
  return { camera: await openDevice({ video: true }), microphone: await openDevice({ audio: true }) };
}

/** @param {MediaStreamConstraints} constraints @returns {Promise<OpenDevice>} */
async function openDevice(constraints) {
  try {
    const [track] = (await requestMedia(constraints)).getTracks();
    return track ? { track } : { error: 'NotFoundError' };
  } catch (error) {
    return { error: /** @type {Error} */ (error).name };
  }
}

/** @param {MediaStreamConstraints} constraints @returns {Promise<MediaStream>} */
function requestMedia(constraints) {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const deadline = setTimeout(() => {
      isLate = true;
      reject(Object.assign(new Error('no answer'), { name: 'unanswered' }));
    }, ANSWER_MS);
    navigator.mediaDevices.getUserMedia(constraints).then(
      (stream) => {
        clearTimeout(deadline);
        if (isLate) stream.getTracks().forEach((track) => track.stop());
        else resolve(stream);
      },
      (error) => {
        clearTimeout(deadline);
        reject(error);
      },
    );
  });
}

/** @param {MediaStreamTrack} track @returns {Promise<import('./step-runner.js').Result>} */
async function waitForPicture(track) {
  const video = document.createElement('video');
  Object.assign(video, { muted: true, playsInline: true, srcObject: new MediaStream([track]) });
  const hasPicture = new Promise((resolve) => {
    video.addEventListener('loadeddata', () => resolve(true));
    setTimeout(() => resolve(false), PICTURE_MS);
  });
  // A browser that does not play a hidden video still loads its first picture.
  video.play().catch(() => {});
  const { videoWidth: width, videoHeight: height } = (await hasPicture) ? video : { videoWidth: 0, videoHeight: 0 };
  video.srcObject = null;
  return width > 0 ? { outcome: 'picture', values: { width, height } } : { outcome: 'no_picture' };
}

/**
 * @param {MediaStreamTrack} track
 * @param {(level: number) => void} onLevel
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function waitForSound(track, onLevel) {
  const audio = new AudioContext();
  audio.resume().catch(() => {});
  const analyser = audio.createAnalyser();
  audio.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const began = performance.now();
  let loudest = 0;
  try {
    while (performance.now() - began < (loudest > AUDIBLE ? LEVEL_MS : SOUND_MS)) {
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
      analyser.getFloatTimeDomainData(samples);
      const level = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      onLevel(level);
      loudest = Math.max(loudest, level);
    }
    onLevel(loudest);
    if (loudest > AUDIBLE) return { outcome: 'sound' };
    // A browser without a loudspeaker may run no audio, and then every sample is zero.
    return { outcome: audio.state === 'running' ? 'silence' : 'sound_not_measured' };
  } finally {
    void audio.close();
  }
}
