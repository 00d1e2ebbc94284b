/**
 * The names under which the page shows people. Two people may type the same name, so a number tells
 * them apart. The number comes from the user: everyone sees the same one, also after a reload.
 */

/** @typedef {{ userId: string, name?: string }} Person */

/** A number for a user with four digits. @param {string} userId */
export function numberOf(userId) {
  let hash = 0;
  for (const character of userId.replace(/^guest:/, '')) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 4_294_967_296;
  return 1_000 + (hash % 9_000);
}

/** Names that look the same are the same name. @param {Person} person */
function canonicalName({ name, userId }) {
  return (name || userId).normalize('NFKC').trim().replace(/\s+/g, ' ').toLowerCase();
}

/**
 * Returns the name of a person, with a number if another user has the same name, or if the name
 * itself ends with such a number.
 *
 * @param {Person} person
 * @param {Person[]} people all people whom the page shows
 */
export function shownName(person, people) {
  const { name, userId } = person;
  const isShared = people.some((other) => other.userId !== userId && canonicalName(other) === canonicalName(person));
  const text = name || userId;
  return isShared || /\(\d+\)\s*$/.test(text) ? `${text} (${numberOf(userId)})` : text;
}
