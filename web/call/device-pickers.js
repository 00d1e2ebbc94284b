/**
 * The lists of cameras, microphones and speakers, on the start page and in the settings. A choice is
 * remembered. Owns the options of the lists.
 */
import { savedSettings } from './saved-settings.js';
import { text } from './texts.js';

/** Kind of a device → its setting, and its kind of media. */
const KINDS = /** @type {const} */ ({
  videoinput: { setting: 'camera', media: 'video', none: 'device.no_camera', unnamed: 'device.camera' },
  audioinput: { setting: 'microphone', media: 'audio', none: 'device.no_microphone', unnamed: 'device.microphone' },
  audiooutput: { setting: 'speaker', media: null, none: 'device.no_speaker', unnamed: 'device.speaker' },
});

/** Whether the page can choose the speaker. */
const CHOOSES_SPEAKER = 'setSinkId' in HTMLMediaElement.prototype;

/** @param {import('./local-media.js').LocalMedia} media */
export function bindDevicePickers(media) {
  const pickers = [...document.querySelectorAll('select[data-device]')].map((picker) => /** @type {HTMLSelectElement} */ (picker));
  const update = async () => {
    // A page at an insecure address has no devices.
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    for (const picker of pickers) showDevices(picker, devices, media);
  };
  for (const picker of pickers) {
    const { setting, media: kind } = KINDS[kindOf(picker)];
    picker.addEventListener('change', () => {
      savedSettings.set(setting, picker.value);
      if (kind) void media.changeDevice(kind);
      void update();
    });
  }
  media.addEventListener('change', update);
  addEventListener('languagechange', update);
  navigator.mediaDevices?.addEventListener('devicechange', update);
  void update();
}

/** @param {HTMLSelectElement} picker */
function kindOf(picker) {
  return /** @type {keyof typeof KINDS} */ (picker.getAttribute('data-device'));
}

/**
 * @param {HTMLSelectElement} picker
 * @param {MediaDeviceInfo[]} devices
 * @param {import('./local-media.js').LocalMedia} media
 */
function showDevices(picker, devices, media) {
  const { setting, media: kind, none, unnamed } = KINDS[kindOf(picker)];
  // Before the person has allowed a device, a browser names none.
  const found = devices.filter((device) => device.kind === kindOf(picker));
  const options = found.map(({ deviceId, label }) => ({ value: deviceId, label: label || text(unnamed) }));
  if (options.length === 0) options.push({ value: '', label: text(none) });
  // An open list would close if its options were replaced.
  if (JSON.stringify(options) !== JSON.stringify([...picker.options].map(({ value, label }) => ({ value, label })))) {
    picker.replaceChildren(...options.map(({ value, label }) => new Option(label, value)));
  }
  const inUse = kind ? media.track(kind)?.getSettings().deviceId : undefined;
  const wanted = inUse ?? savedSettings.get(setting);
  if (options.some(({ value }) => value === wanted)) picker.value = wanted;
  picker.disabled = found.length === 0;
  picker.closest('.field')?.toggleAttribute('hidden', kind === null && (!CHOOSES_SPEAKER || found.length === 0));
}
