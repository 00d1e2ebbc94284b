/** Random room names that are easy to say; the suffix makes them hard to guess. */

const ADJECTIVES = 'amber brisk calm clear copper coral dusky early gentle golden green hazel ivory jade keen light lunar maple mellow misty north opal pale plain quiet rapid russet silver still sunny tidal warm'.split(' ');
const NOUNS = 'anchor arch bay beacon birch bridge brook canal cedar cove crane delta dune ferry field fjord glade grove harbor heron island lake lantern meadow orchard pine quarry ridge river signal station valley'.split(' ');
const SUFFIX_CHARACTERS = 'abcdefghjkmnpqrstuvwxyz23456789';

/** @param {number} bound */
function randomBelow(bound) {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % bound;
}

export function randomRoomName() {
  const suffix = Array.from({ length: 5 }, () => SUFFIX_CHARACTERS[randomBelow(SUFFIX_CHARACTERS.length)]).join('');
  return `${ADJECTIVES[randomBelow(ADJECTIVES.length)]}-${NOUNS[randomBelow(NOUNS.length)]}-${suffix}`;
}
