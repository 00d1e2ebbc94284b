/** Who is the active speaker of a call. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SpeakerDetector } from '../../../web/call/speaker-detector.js';

const STEP_MS = 200;

/** A detector with a clock; `hear` gives the same levels for a while. */
function detector() {
  const speakers = new SpeakerDetector();
  let now = 0;
  const hear = (levels, ms) => {
    for (const end = now + ms; now < end; now += STEP_MS) speakers.update(new Map(Object.entries(levels)), now);
    return speakers;
  };
  return { speakers, hear };
}

test('the person who speaks is the speaker, and silence has none', () => {
  const { speakers, hear } = detector();
  hear({ ada: 0.004, bob: 0.001 }, 2_000);
  assert.deepEqual([speakers.speaker, speakers.isSpeaking], [null, false]);
  hear({ ada: 0.004, bob: 0.1 }, 600);
  assert.deepEqual([speakers.speaker, speakers.isSpeaking], ['bob', true]);
});

test('a speaker stays through a short pause, and after a long one without the highlight', () => {
  const { speakers, hear } = detector();
  hear({ ada: 0.1, bob: 0 }, 1_000);
  hear({ ada: 0, bob: 0 }, 1_000);
  assert.deepEqual([speakers.speaker, speakers.isSpeaking], ['ada', true]);
  hear({ ada: 0, bob: 0 }, 2_000);
  assert.deepEqual([speakers.speaker, speakers.isSpeaking], ['ada', false]);
});

test('a cough, or an equal voice, does not take the place of the speaker', () => {
  const { speakers, hear } = detector();
  hear({ ada: 0.1, bob: 0 }, 3_000);
  hear({ ada: 0.1, bob: 0.3 }, 200);
  assert.equal(speakers.speaker, 'ada');
  hear({ ada: 0.1, bob: 0.12 }, 5_000);
  assert.equal(speakers.speaker, 'ada');
});

test('a much louder voice takes the place, and any voice after a pause', () => {
  const { speakers, hear } = detector();
  hear({ ada: 0.05, bob: 0 }, 3_000);
  hear({ ada: 0.05, bob: 0.4 }, 1_000);
  assert.equal(speakers.speaker, 'bob');
  hear({ ada: 0.05, bob: 0 }, 4_000);
  assert.equal(speakers.speaker, 'ada');
});

test('two people who talk at once do not take turns faster than the hold', () => {
  const { speakers, hear } = detector();
  let changes = 0;
  let last = null;
  for (let turn = 0; turn < 50; turn += 1) {
    hear(turn % 2 ? { ada: 0.5, bob: 0.03 } : { ada: 0.03, bob: 0.5 }, STEP_MS);
    if (speakers.speaker !== last) changes += 1;
    last = speakers.speaker;
  }
  assert.ok(changes <= 7, `${changes} changes in 10 s`);
});

test('a speaker who leaves is no speaker any more', () => {
  const { speakers, hear } = detector();
  hear({ ada: 0.2, bob: 0 }, 1_000);
  hear({ bob: 0 }, 200);
  assert.deepEqual([speakers.speaker, speakers.isSpeaking], [null, false]);
});
