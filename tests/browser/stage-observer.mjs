// Records the visible changes of a call page: the tiles, the texts, and pauses of the media.

import assert from 'node:assert/strict';

/** Runs in the page: records each visible change from now on. */
function startRecording() {
  const began = performance.now();
  const since = () => Math.round(performance.now() - began);
  const tileIds = new Map();
  const tileId = (tile) => tileIds.get(tile) ?? tileIds.set(tile, tileIds.size + 1).get(tile);
  const text = (root, selector) => root.querySelector(selector)?.textContent ?? '';
  const record = { scenes: [], texts: [], pauses: {}, now: since };
  globalThis.stageRecord = record;

  const noteText = (sentence) => sentence && record.texts.at(-1)?.sentence !== sentence && record.texts.push({ at: since(), sentence });
  const noteScene = () => {
    const tiles = [...document.querySelectorAll('.tile[data-peer-id]:not([hidden])')].map((tile) => ({
      tile: tileId(tile),
      name: text(tile, '.tile-name span'),
      hasVideo: tile.hasAttribute('data-video'),
      muted: tile.hasAttribute('data-muted'),
      state: tile.getAttribute('data-state'),
      text: text(tile, '.tile-state'),
    }));
    if (JSON.stringify(tiles) !== JSON.stringify(record.scenes.at(-1)?.tiles)) record.scenes.push({ at: since(), tiles });
    noteText(text(document, '#status'));
    noteText(text(document, '#call-problem'));
    if (document.querySelector('#call').hidden) noteText('the page shows the start page');
  };
  new MutationObserver(noteScene).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  noteScene();

  // Connection and kind → the longest time without new media, after the first media.
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
        if (last?.count === count) record.pauses[key] = Math.max(record.pauses[key] ?? 0, since() - last.at);
        else seen.set(key, { count, at: since() });
      }
    }
  }, 200);
}

/** Runs in the page: returns the record. */
function readRecord() {
  const { scenes, texts, pauses, now } = stageRecord;
  const open = connectionsMade.filter(({ connectionState }) => connectionState !== 'closed').length;
  return { scenes, texts, pauses, now: now(), connections: { made: connectionsMade.length, open } };
}

export class StageObserver {
  #person;
  #before;

  /** @param {import('./person.mjs').Person} person */
  static async start(person) {
    const observer = new StageObserver();
    observer.#person = person;
    await person.page.evaluate(startRecording);
    const { connections } = await observer.record();
    observer.#before = { connections, sockets: person.sockets, peerId: person.peerId, joins: person.joined.length };
    return observer;
  }

  record() {
    return this.#person.page.evaluate(readRecord);
  }

  /**
   * Asserts that the peer, its connections and the tiles are the same, and that media never paused.
   */
  async assertCallUndisturbed({ longestPauseMs = 4_000, allowNoVideo = false } = {}) {
    const { scenes, texts, pauses, connections } = await this.record();
    const { peerId, joins } = this.#before;
    const story = JSON.stringify({ scenes, texts });
    assert.deepEqual([this.#person.peerId, this.#person.joined.length], [peerId, joins], 'it is the same peer');
    assert.deepEqual(connections, this.#before.connections, 'no connection was created or closed');
    const [first, ...later] = scenes;
    for (const { tiles } of later) {
      assert.deepEqual(tiles.map(({ tile, name }) => [tile, name]), first.tiles.map(({ tile, name }) => [tile, name]), `the same tiles: ${story}`);
      assert.ok(tiles.every(({ state }) => state === 'connected'), `always connected: ${story}`);
      if (!allowNoVideo) assert.ok(tiles.every(({ hasVideo }) => hasVideo), `always with video: ${story}`);
    }
    for (const [medium, pause] of Object.entries(pauses)) assert.ok(pause < longestPauseMs, `${medium} paused for ${pause} ms`);
    return texts.map(({ sentence }) => sentence);
  }

  /** As {@link assertCallUndisturbed}, and the page showed no text except the number of people. */
  async assertNoHints(options) {
    const texts = await this.assertCallUndisturbed(options);
    assert.deepEqual(texts.filter((sentence) => !/^(One other person is|\d other people are) here\.$/.test(sentence)), []);
    const { scenes } = await this.record();
    assert.deepEqual([...new Set(scenes.flatMap(({ tiles }) => tiles.map(({ text }) => text)))].filter(Boolean), []);
  }

  /**
   * Returns for how many milliseconds zero, one or several tiles had this name.
   *
   * @param {string} name
   */
  async timesVisible(name) {
    const { scenes, now } = await this.record();
    const times = { zero: 0, one: 0, several: 0 };
    for (const [n, { at, tiles }] of scenes.entries()) {
      const count = tiles.filter((tile) => tile.name === name).length;
      times[['zero', 'one'][count] ?? 'several'] += (scenes[n + 1]?.at ?? now) - at;
    }
    return times;
  }

  /** Asserts that the page opened no new socket. */
  assertSameSocket() {
    assert.equal(this.#person.sockets, this.#before.sockets, 'no other socket was opened');
  }
}
