/**
 * The data of this tab that survives a reload, so that the same person returns to the same call.
 * Uses sessionStorage only, and never stores a token.
 */

/** @param {string} key */
function read(key) {
  try {
    return sessionStorage.getItem(`signalbox.${key}`);
  } catch {
    return null; // the storage is disabled: the page works, but a reload loses the data
  }
}

/** @param {string} key @param {string | null} value */
function write(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(`signalbox.${key}`);
    else sessionStorage.setItem(`signalbox.${key}`, value);
  } catch {
    // The storage is disabled.
  }
}

/** Returns the user of this tab; creates it at the first call. */
export function tabUser() {
  const stored = read('user');
  if (stored) return stored;
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  const user = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  write('user', user);
  return user;
}

/** The name of this person. */
export const personName = {
  get: () => read('name') ?? '',
  /** @param {string} value */
  set: (value) => write('name', value),
};

/** The room of the current call, or null. */
export const currentRoom = {
  get: () => read('room'),
  /** @param {string | null} value */
  set: (value) => write('room', value),
};

/** Which devices the person has switched off; a reload must not switch a microphone on. */
export const mediaSwitches = {
  /** @param {'audio' | 'video'} kind */
  isOn: (kind) => read(`${kind}-off`) === null,
  /** @param {'audio' | 'video'} kind @param {boolean} on */
  set: (kind, on) => write(`${kind}-off`, on ? null : '1'),
};
