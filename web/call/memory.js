/**
 * What this tab remembers until it is closed, so that a reload comes back to the same call as the same person. In sessionStorage and
 * nowhere else; a token is never among it.
 */

/** @param {string} key */
function read(key) {
  try {
    return sessionStorage.getItem(`signalbox.${key}`);
  } catch {
    return null; // storage is switched off: the page works, a reload forgets
  }
}

/** @param {string} key @param {string | null} value */
function write(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(`signalbox.${key}`);
    else sessionStorage.setItem(`signalbox.${key}`, value);
  } catch {
    // as above
  }
}

/** This tab's user, made once. */
export function user() {
  const known = read('user');
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  const made = `guest-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  write('user', made);
  return made;
}

export const name = {
  get: () => read('name') ?? '',
  /** @param {string} value */
  set: (value) => write('name', value),
};

/** The room this tab is in, or null. */
export const currentRoom = {
  get: () => read('room'),
  /** @param {string | null} value */
  set: (value) => write('room', value),
};

/** Whether the person switched this kind off; a reload must not switch a microphone on. */
export const wanted = {
  /** @param {'audio' | 'video'} kind */
  get: (kind) => read(`${kind}-off`) === null,
  /** @param {'audio' | 'video'} kind @param {boolean} on */
  set: (kind, on) => write(`${kind}-off`, on ? null : '1'),
};
