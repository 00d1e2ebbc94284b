/**
 * Makes QR codes (ISO/IEC 18004): text as bytes, with the error correction M, which restores 15 %, and
 * the versions 1 to 10, which hold up to 213 bytes. Does not draw.
 */

/**
 * Version → the sizes of its blocks at error correction M: how many bytes correct each block, then how
 * many blocks there are and how many data bytes each has (table 9 of the standard).
 *
 * @type {[correction: number, ...groups: [blocks: number, bytes: number][]][]}
 */
const BLOCKS = [
  [10, [1, 16]],
  [16, [1, 28]],
  [26, [1, 44]],
  [18, [2, 32]],
  [24, [2, 43]],
  [16, [4, 27]],
  [18, [4, 31]],
  [22, [2, 38], [2, 39]],
  [22, [3, 36], [2, 37]],
  [26, [4, 43], [1, 44]],
];

/** Version → the centers of its alignment patterns, in both directions. */
const ALIGNMENT = [[], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50]];

/** The conditions under which each mask inverts a module. @type {((row: number, column: number) => boolean)[]} */
const MASKS = [
  (row, column) => (row + column) % 2 === 0,
  (row) => row % 2 === 0,
  (_, column) => column % 3 === 0,
  (row, column) => (row + column) % 3 === 0,
  (row, column) => (Math.floor(row / 2) + Math.floor(column / 3)) % 2 === 0,
  (row, column) => ((row * column) % 2) + ((row * column) % 3) === 0,
  (row, column) => (((row * column) % 2) + ((row * column) % 3)) % 2 === 0,
  (row, column) => (((row + column) % 2) + ((row * column) % 3)) % 2 === 0,
];

/**
 * Returns the rows of modules, true for dark, without the white border of four modules; null if the
 * text is too long.
 *
 * @param {string} text
 * @returns {boolean[][] | null}
 */
export function encodeQr(text) {
  const bytes = new TextEncoder().encode(text);
  const version = BLOCKS.findIndex((_, index) => bytes.length + (index < 9 ? 2 : 3) <= dataBytes(index)) + 1;
  if (version === 0) return null;
  const codewords = interleave(version, dataCodewords(bytes, version));
  const candidates = MASKS.map((_, mask) => drawSymbol(version, codewords, mask));
  const penalties = candidates.map(penaltyOf);
  return candidates[penalties.indexOf(Math.min(...penalties))] ?? null;
}

/** @param {number} index of the version */
function dataBytes(index) {
  const [, ...groups] = BLOCKS[index] ?? [0];
  return groups.reduce((sum, [blocks, bytes]) => sum + blocks * bytes, 0);
}

/** The mode, the length, the bytes, the end, and padding. @param {Uint8Array} bytes @param {number} version */
function dataCodewords(bytes, version) {
  /** @type {boolean[]} */
  const bits = [];
  const append = (/** @type {number} */ value, /** @type {number} */ length) => {
    for (let bit = length - 1; bit >= 0; bit -= 1) bits.push(isBitSet(value, bit));
  };
  append(0b0100, 4);
  append(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) append(byte, 8);
  append(0, 4);
  const data = new Uint8Array(dataBytes(version - 1));
  bits.forEach((bit, index) => (data[index >> 3] = (data[index >> 3] ?? 0) | (Number(bit) << (7 - (index % 8)))));
  for (let index = bits.length / 8; index < data.length; index += 1) data[index] = (index - bits.length / 8) % 2 ? 0x11 : 0xec;
  return data;
}

/** Splits the data into blocks, and takes one byte of each block in turn. @param {number} version @param {Uint8Array} data */
function interleave(version, data) {
  const [correction, ...groups] = BLOCKS[version - 1] ?? [0];
  let start = 0;
  const blocks = groups.flatMap(([count, length]) => Array.from({ length: count }, () => data.subarray(start, (start += length))));
  const corrections = blocks.map((block) => correctionBytes(block, correction));
  const inTurn = (/** @type {Uint8Array[]} */ all) => {
    const longest = Math.max(...all.map(({ length }) => length));
    return Array.from({ length: longest }, (_, index) => all.filter(({ length }) => index < length).map((block) => block[index] ?? 0)).flat();
  };
  return [...inTurn(blocks), ...inTurn(corrections)];
}

/** The product in the field GF(256) of the standard. @param {number} one @param {number} other */
function multiply(one, other) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    if (isBitSet(other, bit)) product ^= one;
  }
  return product;
}

/** The remainder of a block by the generator of Reed and Solomon. @param {Uint8Array} block @param {number} length */
function correctionBytes(block, length) {
  const generator = new Uint8Array(length).fill(0);
  generator[length - 1] = 1;
  for (let root = 1, step = 0; step < length; step += 1, root = multiply(root, 2)) {
    for (let index = 0; index < length; index += 1) generator[index] = multiply(generator[index] ?? 0, root) ^ (generator[index + 1] ?? 0);
  }
  const remainder = new Uint8Array(length);
  for (const byte of block) {
    const factor = byte ^ (remainder[0] ?? 0);
    remainder.copyWithin(0, 1);
    remainder[length - 1] = 0;
    for (let index = 0; index < length; index += 1) remainder[index] = (remainder[index] ?? 0) ^ multiply(generator[index] ?? 0, factor);
  }
  return remainder;
}

/** @param {number} version @param {number[]} codewords @param {number} mask */
function drawSymbol(version, codewords, mask) {
  const size = 17 + 4 * version;
  /** Null is free for data. @type {(boolean | null)[][]} */
  const rows = Array.from({ length: size }, () => Array.from({ length: size }, () => null));
  const set = (/** @type {number} */ row, /** @type {number} */ column, /** @type {boolean} */ dark) => {
    const cells = rows[row];
    if (cells && column >= 0 && column < size) cells[column] = dark;
  };
  drawPatterns(version, size, set);
  drawFormat(mask, size, set);
  if (version >= 7) drawVersion(version, size, set);
  drawData(rows, codewords, mask);
  return rows.map((cells) => cells.map(Boolean));
}

/**
 * The parts that are the same in each symbol of a version.
 *
 * @param {number} version @param {number} size
 * @param {(row: number, column: number, dark: boolean) => void} set
 */
function drawPatterns(version, size, set) {
  for (let index = 0; index < size; index += 1) {
    set(6, index, index % 2 === 0);
    set(index, 6, index % 2 === 0);
  }
  const square = (/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ radius, /** @type {number} */ light) => {
    for (let down = -radius; down <= radius; down += 1) {
      for (let right = -radius; right <= radius; right += 1) {
        const ring = Math.max(Math.abs(down), Math.abs(right));
        set(row + down, column + right, ring !== light && ring <= 3);
      }
    }
  };
  const centers = ALIGNMENT[version - 1] ?? [];
  const last = size - 7;
  for (const row of centers) {
    for (const column of centers) {
      const isInFinder = (row === 6 && (column === 6 || column === last)) || (row === last && column === 6);
      if (!isInFinder) square(row, column, 2, 1);
    }
  }
  for (const [row, column] of /** @type {const} */ ([[3, 3], [3, size - 4], [size - 4, 3]])) square(row, column, 4, 2);
  set(size - 8, 8, true);
}

/** Error correction M and the mask, twice. @param {number} mask @param {number} size @param {(row: number, column: number, dark: boolean) => void} set */
function drawFormat(mask, size, set) {
  const bits = ((mask << 10) | checkBits(mask, 10, 0x537)) ^ 0x5412;
  for (let index = 0; index < 15; index += 1) {
    const dark = isBitSet(bits, index);
    if (index < 8) set(index + Number(index > 5), 8, dark);
    else set(8, index === 8 ? 7 : 14 - index, dark);
    if (index < 8) set(8, size - 1 - index, dark);
    else set(size - 15 + index, 8, dark);
  }
}

/** @param {number} version @param {number} size @param {(row: number, column: number, dark: boolean) => void} set */
function drawVersion(version, size, set) {
  const bits = (version << 12) | checkBits(version, 12, 0x1f25);
  for (let index = 0; index < 18; index += 1) {
    const [along, across] = [Math.floor(index / 3), size - 11 + (index % 3)];
    set(along, across, isBitSet(bits, index));
    set(across, along, isBitSet(bits, index));
  }
}

/** The data runs up and down in columns of two, from the right. @param {(boolean | null)[][]} rows @param {number[]} codewords @param {number} mask */
function drawData(rows, codewords, mask) {
  const size = rows.length;
  let bit = 0;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    const isUpward = ((right + 1) & 2) === 0;
    for (let step = 0; step < size; step += 1) {
      const row = isUpward ? size - 1 - step : step;
      for (const column of [right, right - 1]) {
        const cells = rows[row];
        if (!cells || cells[column] !== null) continue;
        const dark = isBitSet(codewords[bit >> 3] ?? 0, 7 - (bit % 8));
        cells[column] = dark !== MASKS[mask]?.(row, column);
        bit += 1;
      }
    }
  }
}

/** How hard a symbol is to read (section 7.8.3 of the standard). @param {boolean[][]} rows */
function penaltyOf(rows) {
  const size = rows.length;
  const at = (/** @type {number} */ row, /** @type {number} */ column) => Number(rows[row]?.[column]);
  const lines = rows.flatMap((_, index) => [rows.map((cells) => Number(cells[index])).join(''), rows.map((_row, column) => at(index, column)).join('')]);
  let penalty = 0;
  for (const line of lines) {
    for (const [run] of line.matchAll(/0{5,}|1{5,}/g)) penalty += run.length - 2;
    // Matches may overlap, so each place is tried.
    for (let start = 0; start + 11 <= size; start += 1) penalty += /^(00001011101|10111010000)/.test(line.slice(start, start + 11)) ? 40 : 0;
  }
  let dark = 0;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      dark += at(row, column);
      const sum = at(row, column) + at(row, column + 1) + at(row + 1, column) + at(row + 1, column + 1);
      if (sum === 0 || sum === 4) penalty += 3;
    }
  }
  return penalty + 10 * Math.floor(Math.abs((dark * 100) / (size * size) - 50) / 5);
}

/** The remainder of a value by a BCH generator. @param {number} value @param {number} length @param {number} generator */
function checkBits(value, length, generator) {
  let remainder = value;
  for (let step = 0; step < length; step += 1) remainder = (remainder << 1) ^ ((remainder >> (length - 1)) * generator);
  return remainder;
}

/** @param {number} value @param {number} bit */
function isBitSet(value, bit) {
  return ((value >> bit) & 1) === 1;
}
