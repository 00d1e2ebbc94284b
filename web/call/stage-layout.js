/**
 * Where the pictures of a call stand: geometry alone, without the document. Two people: the other one
 * fills the view. More people: tiles of equal size. A shared screen, or the speaker in the speaker
 * view: one large picture beside a strip of small ones. See video-stage.js for the elements.
 */

/**
 * @typedef {{ left: number, top: number, width: number, height: number }} Box in CSS pixels
 * @typedef {'main' | 'grid' | 'strip' | 'corner' | 'beyond'} Place `beyond`: there is no room for it
 * @typedef {'top left' | 'top right' | 'bottom left' | 'bottom right'} Corner
 *
 * @typedef {object} Scene what is to be shown
 * @property {number} width
 * @property {number} height
 * @property {readonly string[]} others the ids of the other people
 * @property {string} own the id of this person
 * @property {readonly string[]} screens the ids of the shared screens
 * @property {string | null} main the id of the large picture, see {@link chooseMain}
 * @property {Corner} corner of the own picture in a call of two
 * @property {number} aspect width / height of the own picture
 */

export const GAP = 8;

/** More pictures would be too small, and too much work for the browser. */
const MAX_TILES = 9;

/** The id of the tile that says how many more people are here. */
export const MORE = 'more';

/** @type {Corner[]} */
export const CORNERS = ['bottom right', 'bottom left', 'top left', 'top right'];

/** A tile is not wider than a camera picture, so that nothing above and below is cut. */
const WIDEST = 16 / 9;

/**
 * Returns the id of the large picture, or null for equal ones.
 *
 * @param {{ pinned: string | null, screens: readonly string[], others: readonly string[],
 *   speaker: string | null, view: 'grid' | 'speaker' }} choice
 */
export function chooseMain({ pinned, screens, others, speaker, view }) {
  if (pinned !== null && (screens.includes(pinned) || (others.length > 1 && others.includes(pinned)))) return pinned;
  if (screens.length > 0) return screens[screens.length - 1] ?? null;
  if (view === 'grid' || others.length < 2) return null;
  return speaker !== null && others.includes(speaker) ? speaker : others[0] ?? null;
}

/**
 * Returns the place of each picture, and of {@link MORE} if some people have none.
 *
 * @param {Scene} scene
 * @param {string | null} [speaker] gets a place before the others
 * @returns {{ places: Map<string, Box & { place: Place }>, beyond: number }}
 */
export function arrangeStage(scene, speaker = null) {
  const { width, height, others, own, screens, main } = scene;
  if (main !== null) {
    const [mainBox, strip] = splitForStrip(width, height, 1 + others.length + screens.length - 1);
    const { places, beyond } = placeTiles([...screens, ...others].filter((id) => id !== main), own, speaker, 'strip', strip);
    places.set(main, { ...mainBox, place: 'main' });
    return { places, beyond };
  }
  if (others.length <= 1) {
    const places = new Map(others.map((id) => [id, { left: 0, top: 0, width, height, place: /** @type {Place} */ ('main') }]));
    places.set(own, { ...cornerBox(scene), place: 'corner' });
    return { places, beyond: 0 };
  }
  return placeTiles(others, own, speaker, 'grid', gridBoxes(Math.min(others.length + 1, MAX_TILES), width, height));
}

/**
 * Gives the boxes to the people: the own picture has the last one. Without enough boxes, the one
 * before it says how many are missing.
 *
 * @param {string[] | readonly string[]} ids
 * @param {string} own
 * @param {string | null} speaker
 * @param {Place} place
 * @param {Box[]} boxes
 */
function placeTiles(ids, own, speaker, place, boxes) {
  const isCrowded = ids.length + 1 > boxes.length;
  const shown = Math.max(0, isCrowded ? boxes.length - 2 : ids.length);
  const ordered = [...ids];
  const at = speaker === null ? -1 : ordered.indexOf(speaker);
  if (at >= shown && shown > 0) ordered.splice(shown - 1, 0, ...ordered.splice(at, 1));
  const beyond = ordered.splice(shown);
  const tiles = [...ordered, ...(isCrowded && boxes.length > 1 ? [MORE] : []), own];
  /** @type {Map<string, Box & { place: Place }>} */
  const places = new Map();
  tiles.forEach((id, index) => boxes[index] && places.set(id, { ...boxes[index], place }));
  for (const id of beyond) places.set(id, { left: 0, top: 0, width: 0, height: 0, place: 'beyond' });
  return { places, beyond: beyond.length };
}

/**
 * Returns boxes of equal size, as large as possible. The last row is centered.
 *
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @returns {Box[]}
 */
export function gridBoxes(count, width, height) {
  const narrowest = width >= height ? 4 / 3 : 3 / 4;
  let best = { columns: 1, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - GAP * (columns - 1)) / columns;
    const cellHeight = (height - GAP * (rows - 1)) / rows;
    const tileWidth = Math.floor(Math.min(cellWidth, cellHeight * WIDEST));
    const tileHeight = Math.floor(Math.min(cellHeight, tileWidth / narrowest));
    if (tileWidth * tileHeight > best.tileWidth * best.tileHeight) best = { columns, tileWidth, tileHeight };
  }
  const { columns, tileWidth, tileHeight } = best;
  const rows = Math.ceil(count / columns);
  const top = (height - rows * tileHeight - GAP * (rows - 1)) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (width - inRow * tileWidth - GAP * (inRow - 1)) / 2;
    return { left: Math.round(left + (index % columns) * (tileWidth + GAP)), top: Math.round(top + row * (tileHeight + GAP)), width: tileWidth, height: tileHeight };
  });
}

/**
 * Returns the box of the large picture and the boxes of the strip: beside it in a wide view, below it
 * in a high one.
 *
 * @param {number} width
 * @param {number} height
 * @param {number} count of small pictures
 * @returns {[Box, Box[]]}
 */
function splitForStrip(width, height, count) {
  const isWide = width >= height;
  const tileWidth = Math.round(isWide ? clamp(width * 0.17, 112, 260) : clamp(width * 0.22, 80, 200));
  const tileHeight = Math.round(tileWidth / (isWide ? WIDEST : 4 / 3));
  const [length, size] = isWide ? [height, tileHeight] : [width, tileWidth];
  const shown = clamp(Math.floor((length + GAP) / (size + GAP)), 1, count);
  const start = (length - shown * size - GAP * (shown - 1)) / 2;
  const boxes = Array.from({ length: shown }, (_, index) => {
    const along = Math.round(start + index * (size + GAP));
    return { left: isWide ? width - tileWidth : along, top: isWide ? along : height - tileHeight, width: tileWidth, height: tileHeight };
  });
  const main = { left: 0, top: 0, width: isWide ? width - tileWidth - GAP : width, height: isWide ? height : height - tileHeight - GAP };
  return [main, boxes];
}

/** The own picture takes the same area in any shape. @param {Scene} scene @returns {Box} */
function cornerBox({ width, height, corner, aspect }) {
  const shape = clamp(aspect, 3 / 4, WIDEST);
  const length = clamp((width + height) * 0.1, 100, 210);
  const ownWidth = Math.round(length * Math.sqrt(shape));
  const ownHeight = Math.round(length / Math.sqrt(shape));
  const [vertical, horizontal] = corner.split(' ');
  return {
    left: horizontal === 'left' ? GAP : width - ownWidth - GAP,
    top: vertical === 'top' ? GAP : height - ownHeight - GAP,
    width: ownWidth,
    height: ownHeight,
  };
}

/**
 * Returns the corner that is nearest to a point.
 *
 * @param {number} x @param {number} y of the point
 * @param {number} width @param {number} height of the view
 * @returns {Corner}
 */
export function nearestCorner(x, y, width, height) {
  return /** @type {Corner} */ (`${y < height / 2 ? 'top' : 'bottom'} ${x < width / 2 ? 'left' : 'right'}`);
}

/**
 * Whether a picture may fill a box although its edges are cut. Heads are at the top of a picture, so
 * less may be cut there than at the sides.
 *
 * @param {number} picture width / height
 * @param {number} box width / height
 * @returns {'cover' | 'contain'}
 */
export function fitOf(picture, box) {
  const isCutAbove = box > picture;
  const shown = isCutAbove ? picture / box : box / picture;
  return shown >= (isCutAbove ? 0.74 : 0.5) ? 'cover' : 'contain';
}

/** @param {number} value @param {number} least @param {number} most */
function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
