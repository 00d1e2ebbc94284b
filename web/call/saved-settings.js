/**
 * The choices of the person that the next visit needs too: devices, theme, view. They belong to the
 * browser and not to a tab, and hold nothing about a call, a name or a token. A change emits an event
 * with the name of the setting.
 */

/**
 * Setting → its value if the person has not chosen.
 *
 * `camera`, `microphone` and `speaker` are device ids.
 */
const DEFAULTS = { language: 'system', theme: 'system', view: 'grid', mirror: 'on', shortcuts: 'on', corner: 'bottom right', camera: '', microphone: '', speaker: '' };

/** @typedef {keyof typeof DEFAULTS} Setting */

class SavedSettings extends EventTarget {
  /** The choices while the storage is disabled. @type {Map<Setting, string>} */
  #unsaved = new Map();

  /** @param {Setting} setting */
  get(setting) {
    try {
      const value = localStorage.getItem(`signalbox.${setting}`);
      if (value !== null) return value;
    } catch {
      // The storage is disabled.
    }
    return this.#unsaved.get(setting) ?? DEFAULTS[setting];
  }

  /** @param {Setting} setting @param {string} value */
  set(setting, value) {
    try {
      localStorage.setItem(`signalbox.${setting}`, value);
    } catch {
      this.#unsaved.set(setting, value);
    }
    this.dispatchEvent(new Event(setting));
  }
}

export const savedSettings = new SavedSettings();
