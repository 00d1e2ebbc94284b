// What a person notices who watches the call page all the time: who is on the stage, what the page says, and whether the media stalls.

import assert from 'node:assert/strict';

/** Runs in the page. From now on it writes down every change that a person would see. */
function startWatching() {
  const began = performance.now();
  const since = () => Math.round(performance.now() - began);
  const tileIds = new Map();
  const idOf = (tile) => tileIds.get(tile) ?? tileIds.set(tile, tileIds.size + 1).get(tile);
  const text = (root, selector) => root.querySelector(selector)?.textContent ?? '';
  const notes = { scenes: [], words: [], pauses: {}, now: since };
  globalThis.notes = notes;

  const tell = (sentence) => sentence && notes.words.at(-1)?.sentence !== sentence && notes.words.push({ at: since(), sentence });
  const look = () => {
    const tiles = [...document.querySelectorAll('.tile[data-peer-id]:not([hidden])')].map((tile) => ({
      tile: idOf(tile),
      name: text(tile, '.tile-name span'),
      picture: tile.hasAttribute('data-video'),
      muted: tile.hasAttribute('data-muted'),
      state: tile.getAttribute('data-state'),
      says: text(tile, '.tile-state'),
    }));
    if (JSON.stringify(tiles) !== JSON.stringify(notes.scenes.at(-1)?.tiles)) notes.scenes.push({ at: since(), tiles });
    tell(text(document, '#status'));
    tell(text(document, '#call-problem'));
    if (document.querySelector('#call').hidden) tell('the page is in the lobby');
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  look();

  // The longest time in which a medium that had begun brought nothing new, by connection and kind.
  const seen = new Map();
  setInterval(async () => {
    for (const [connection, pc] of connectionsMade.entries()) {
      if (pc.connectionState === 'closed') continue;
      for (const stats of (await pc.getStats()).values()) {
        if (stats.type !== 'inbound-rtp') continue;
        const count = stats.kind === 'video' ? stats.framesDecoded : stats.packetsReceived;
        const key = `${connection} ${stats.kind}`;
        const last = seen.get(key);
        if (!count) continue;
        if (last?.count === count) notes.pauses[key] = Math.max(notes.pauses[key] ?? 0, since() - last.at);
        else seen.set(key, { count, at: since() });
      }
    }
  }, 200);
}

/** Runs in the page. */
function readNotes() {
  const { scenes, words, pauses, now } = notes;
  const open = connectionsMade.filter(({ connectionState }) => connectionState !== 'closed').length;
  return { scenes, words, pauses, now: now(), connections: { made: connectionsMade.length, open } };
}

export class Witness {
  #person;
  #before;

  /** @param {import('./people.mjs').Person} person whose page is watched from now on */
  static async of(person) {
    const witness = new Witness();
    witness.#person = person;
    await person.page.evaluate(startWatching);
    const { connections } = await witness.notes();
    witness.#before = { connections, sockets: person.sockets, peerId: person.peerId, joins: person.joined.length };
    return witness;
  }

  notes() {
    return this.#person.page.evaluate(readNotes);
  }

  /** The same peer, with the same connections to the same people, all of them seen and heard all the time. */
  async sawNothing({ longestPauseMs = 4_000, darkTile = false } = {}) {
    const { scenes, words, pauses, connections } = await this.notes();
    const { peerId, joins } = this.#before;
    const story = JSON.stringify({ scenes, words });
    assert.deepEqual([this.#person.peerId, this.#person.joined.length], [peerId, joins], 'it is the same peer');
    assert.deepEqual(connections, this.#before.connections, 'no connection was made anew, and none was closed');
    const [first, ...later] = scenes;
    for (const { tiles } of later) {
      assert.deepEqual(tiles.map(({ tile, name }) => [tile, name]), first.tiles.map(({ tile, name }) => [tile, name]), `the same tiles: ${story}`);
      assert.ok(tiles.every(({ state }) => state === 'connected'), `always connected: ${story}`);
      if (!darkTile) assert.ok(tiles.every(({ picture }) => picture), `always with a picture: ${story}`);
    }
    for (const [medium, pause] of Object.entries(pauses)) assert.ok(pause < longestPauseMs, `${medium} stood still for ${pause} ms`);
    return words.map(({ sentence }) => sentence);
  }

  /** As {@link sawNothing}, and the page said nothing but how many are here. */
  async wasNotBothered(options) {
    const words = await this.sawNothing(options);
    assert.deepEqual(words.filter((sentence) => !/^(One other person is|\d other people are) here\.$/.test(sentence)), []);
    const { scenes } = await this.notes();
    assert.deepEqual([...new Set(scenes.flatMap(({ tiles }) => tiles.map(({ says }) => says)))].filter(Boolean), []);
  }

  /** For how many milliseconds there was nobody of that name on the stage, one, or more. @param {string} name */
  async counted(name) {
    const { scenes, now } = await this.notes();
    const times = { none: 0, one: 0, more: 0 };
    for (const [n, { at, tiles }] of scenes.entries()) {
      const count = tiles.filter((tile) => tile.name === name).length;
      times[['none', 'one'][count] ?? 'more'] += (scenes[n + 1]?.at ?? now) - at;
    }
    return times;
  }

  /** The page keeps the socket it had. */
  keptItsSocket() {
    assert.equal(this.#person.sockets, this.#before.sockets, 'no other socket was opened');
  }
}
