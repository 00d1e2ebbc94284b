/** Where the pictures of the call page stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GAP, MORE, arrangeStage, chooseMain, fitOf, gridBoxes, nearestCorner } from '../../../web/call/stage-layout.js';

const VIEWS = [
  { name: 'a phone', width: 374, height: 700 },
  { name: 'a phone on its side', width: 824, height: 290 },
  { name: 'a desktop', width: 1400, height: 740 },
];

const people = (count) => Array.from({ length: count }, (_, index) => `person-${index}`);
const arrange = (view, count, more = {}, speaker) => arrangeStage({ ...view, others: people(count), own: 'self', screens: [], main: null, corner: 'bottom right', aspect: 16 / 9, ...more }, speaker);

/** Asserts that each box is inside the view, and that no two overlap. */
function assertApart(boxes, { width, height }) {
  for (const [index, box] of boxes.entries()) {
    assert.ok(box.left >= 0 && box.top >= 0 && box.left + box.width <= width && box.top + box.height <= height, JSON.stringify(box));
    for (const other of boxes.slice(index + 1)) {
      const isApart = box.left + box.width <= other.left || other.left + other.width <= box.left || box.top + box.height <= other.top || other.top + other.height <= box.top;
      assert.ok(isApart, `${JSON.stringify(box)} and ${JSON.stringify(other)}`);
    }
  }
}

for (const view of VIEWS) {
  test(`in the view of ${view.name}, the tiles of a grid have one size and the last row is centered`, () => {
    for (let count = 1; count <= 9; count += 1) {
      const boxes = gridBoxes(count, view.width, view.height);
      assert.equal(boxes.length, count);
      assertApart(boxes, view);
      assert.equal(new Set(boxes.map(({ width, height }) => `${width}×${height}`)).size, 1);
      const lastRow = boxes.filter(({ top }) => top === boxes.at(-1).top);
      const [left, right] = [lastRow[0].left, view.width - lastRow.at(-1).left - lastRow.at(-1).width];
      assert.ok(Math.abs(left - right) <= 2, `${count}: ${left} and ${right}`);
      const [{ width, height }] = boxes;
      assert.ok(width / height <= 16 / 9 + 0.05 && width / height >= 0.74, `${count}: ${width}×${height}`);
    }
  });

  test(`in the view of ${view.name}, a large picture and its strip do not overlap`, () => {
    for (const count of [1, 2, 5, 12]) {
      const { places, beyond } = arrange(view, count, { main: 'person-0' });
      assertApart([...places.values()].filter(({ place }) => place !== 'beyond'), view);
      const { width, height } = places.get('person-0');
      assert.ok(width * height > view.width * view.height * 0.6);
      assert.equal(places.get('self').place, 'strip');
      assert.equal([...places.values()].filter(({ place }) => place === 'beyond').length, beyond);
      assert.equal(places.has(MORE), beyond > 0);
    }
  });
}

test('a grid uses the view: two columns for four on a desktop, one column for two on a phone', () => {
  assert.equal(new Set(gridBoxes(4, 1400, 740).map(({ left }) => left)).size, 2);
  assert.equal(new Set(gridBoxes(2, 374, 700).map(({ left }) => left)).size, 1);
  assert.equal(new Set(gridBoxes(9, 1400, 740).map(({ left }) => left)).size, 3);
});

test('of two people, the other one fills the view, and oneself has a corner', () => {
  const view = VIEWS[2];
  const { places } = arrange(view, 1);
  assert.deepEqual(places.get('person-0'), { left: 0, top: 0, width: 1400, height: 740, place: 'main' });
  const own = places.get('self');
  assert.equal(own.place, 'corner');
  assert.deepEqual([own.left + own.width, own.top + own.height], [1400 - GAP, 740 - GAP]);
  assert.ok(Math.abs(own.width / own.height - 16 / 9) < 0.02);
  const moved = arrange(view, 1, { corner: nearestCorner(10, 10, 1400, 740) }).places.get('self');
  assert.deepEqual([moved.left, moved.top], [GAP, GAP]);
});

test('more than nine people: the last but one tile says how many, and the speaker has a place', () => {
  const { places, beyond } = arrange(VIEWS[2], 12);
  assert.equal(beyond, 5);
  assert.equal([...places.values()].filter(({ place }) => place === 'grid').length, 9);
  assert.ok(places.has(MORE));
  assert.equal(places.get('person-11').place, 'beyond');
  assert.equal(places.get('self').place, 'grid');
  assert.equal(arrange(VIEWS[2], 12, {}, 'person-11').places.get('person-11').place, 'grid');
  assert.equal(arrange(VIEWS[2], 8).beyond, 0);
});

test('the large picture: what is pinned, then a shared screen, then the speaker', () => {
  const choice = { pinned: null, screens: [], others: ['a', 'b'], speaker: 'b', view: 'grid' };
  assert.equal(chooseMain(choice), null);
  assert.equal(chooseMain({ ...choice, view: 'speaker' }), 'b');
  assert.equal(chooseMain({ ...choice, view: 'speaker', speaker: null }), 'a');
  assert.equal(chooseMain({ ...choice, view: 'speaker', others: ['b'] }), null);
  assert.equal(chooseMain({ ...choice, screens: ['one', 'two'] }), 'two');
  assert.equal(chooseMain({ ...choice, screens: ['one', 'two'], pinned: 'one' }), 'one');
  assert.equal(chooseMain({ ...choice, screens: ['one'], pinned: 'a' }), 'a');
  assert.equal(chooseMain({ ...choice, pinned: 'gone' }), null);
});

test('a picture fills its box unless heads would be cut', () => {
  assert.equal(fitOf(16 / 9, 1400 / 740), 'cover');
  assert.equal(fitOf(4 / 3, 16 / 9), 'cover');
  assert.equal(fitOf(16 / 9, 4 / 3), 'cover');
  assert.equal(fitOf(9 / 16, 1400 / 740), 'contain');
  assert.equal(fitOf(16 / 9, 374 / 700), 'contain');
  assert.equal(fitOf(9 / 16, 374 / 700), 'cover');
});
