/** Room names that can be read aloud; the last part makes them too many to be guessed. */

const FIRST = 'amber brisk calm clear copper coral dusky early gentle golden green hazel ivory jade keen light lunar maple mellow misty north opal pale plain quiet rapid russet silver still sunny tidal warm'.split(' ');
const SECOND = 'anchor arch bay beacon birch bridge brook canal cedar cove crane delta dune ferry field fjord glade grove harbor heron island lake lantern meadow orchard pine quarry ridge river signal station valley'.split(' ');
const LAST = 'abcdefghjkmnpqrstuvwxyz23456789';

/** @param {number} bound */
function random(bound) {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % bound;
}

export function randomRoom() {
  const last = Array.from({ length: 5 }, () => LAST[random(LAST.length)]).join('');
  return `${FIRST[random(FIRST.length)]}-${SECOND[random(SECOND.length)]}-${last}`;
}
