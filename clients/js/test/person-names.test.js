/** How the call page tells people with the same name apart. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { numberOf, shownName } from '../../../web/call/person-names.js';

const ada = { userId: 'guest:0a1b2c', name: 'Ada' };

for (const [what, other, hasNumber] of [
  ['the same name', { userId: 'guest:ffee', name: 'Ada' }, true],
  ['the same name in other letters', { userId: 'guest:ffee', name: ' aDA ' }, true],
  ['the same name in wide letters', { userId: 'guest:ffee', name: 'Ａｄａ' }, true],
  ['another name', { userId: 'guest:ffee', name: 'Adam' }, false],
  ['no name', { userId: 'guest:ffee', name: '' }, false],
  ['the name of the same user on another page', { userId: ada.userId, name: 'Ada' }, false],
]) {
  test(`a person gets a number beside ${what}: ${hasNumber}`, () => {
    const [one, two] = [ada, other].map((person) => shownName(person, [ada, other]));
    assert.equal(/^Ada \(\d{4}\)$/.test(one), hasNumber, one);
    assert.equal(one !== two, other.userId !== ada.userId);
  });
}

test('a person cannot type the number of another person', () => {
  const other = { userId: 'guest:ffee', name: 'Ada' };
  const copy = { userId: 'guest:1234', name: shownName(ada, [ada, other]) };
  const people = [ada, other, copy];
  assert.equal(new Set(people.map((person) => shownName(person, people))).size, 3);
});

test('the number of a guest without a name is the one of the user', () => {
  const name = `Guest ${numberOf('0a1b2c')}`;
  assert.match(name, /^Guest \d{4}$/);
  const other = { userId: 'guest:ffee', name };
  assert.equal(shownName({ userId: 'guest:0a1b2c', name }, [other]), `${name} (${name.slice(6)})`);
});
