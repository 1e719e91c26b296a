// Lines of equal density: a smoothed 2-D histogram, and the highest-density regions that hold given shares of the points
// (Hyndman 1996), outlined by marching squares.

/** Cells along the longer side. */
const CELLS = 128;

/**
 * Outlines of the regions of highest density that hold the given shares of the points: a Map from share to Float32Array
 * [segments × (x, y, x, y)]. `frame` is { left, right, bottom, top } of the points.
 */
export function contours({ x, y }, frame, shares) {
  const found = new Map();
  if (x.length < 10) return found;
  const bandwidth = 0.75 * Math.sqrt(spread(x) * spread(y)) * x.length ** (-1 / 6);
  const cell = Math.max(frame.right - frame.left, frame.top - frame.bottom) / CELLS || 1;
  const reach = Math.max(1.2, bandwidth / cell);
  const air = Math.ceil(3 * reach) + 1;
  const [left, bottom] = [frame.left - air * cell, frame.bottom - air * cell];
  const columns = Math.ceil((frame.right - left) / cell) + air;
  const rows = Math.ceil((frame.top - bottom) / cell) + air;
  const counts = histogram({ x, y }, { left, bottom, cell, columns, rows });
  const density = smooth(counts, columns, rows, reach);
  const levels = thresholds(density, counts, shares);
  for (const [i, share] of shares.entries()) {
    const lines = outline(density, columns, rows, levels[i]);
    // densities belong to the middles of cells
    found.set(share, lines.map((value, k) => (k % 2 ? bottom : left) + (value + 0.5) * cell));
  }
  return found;
}

function spread(values) {
  let [sum, squares] = [0, 0];
  for (const value of values) { sum += value; squares += value * value; }
  return Math.sqrt(Math.max(0, squares / values.length - (sum / values.length) ** 2));
}

function histogram({ x, y }, { left, bottom, cell, columns, rows }) {
  const counts = new Float32Array(columns * rows);
  for (let i = 0; i < x.length; i++) {
    const [column, row] = [Math.floor((x[i] - left) / cell), Math.floor((y[i] - bottom) / cell)];
    if (column >= 0 && row >= 0 && column < columns && row < rows) counts[row * columns + column]++;
  }
  return counts;
}

/** A Gaussian blur with a standard deviation of `reach` cells, along rows and then along columns. */
function smooth(values, columns, rows, reach) {
  const half = Math.ceil(3 * reach);
  const kernel = Float32Array.from({ length: 2 * half + 1 }, (_, i) => Math.exp(-0.5 * ((i - half) / reach) ** 2));
  const whole = kernel.reduce((sum, value) => sum + value);
  const blur = (from, step, length, across, lines) => {
    const to = new Float32Array(from.length);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < length; i++) {
        let sum = 0;
        for (let k = Math.max(-half, -i); k <= Math.min(half, length - 1 - i); k++) sum += kernel[k + half] * from[line * across + (i + k) * step];
        to[line * across + i * step] = sum / whole;
      }
    }
    return to;
  };
  return blur(blur(values, 1, columns, columns, rows), columns, rows, 1, columns);
}

/** The densities above which the cells hold these ascending shares of all that is counted. */
function thresholds(density, counts, shares) {
  const order = Uint32Array.from(density.keys()).sort((a, b) => density[b] - density[a]);
  const whole = counts.reduce((sum, value) => sum + value, 0);
  const found = [];
  let held = 0;
  for (const cell of order) {
    held += counts[cell];
    while (found.length < shares.length && held >= shares[found.length] * whole) found.push(density[cell]);
  }
  return found;
}

/** Corners of a square: 0 lower left, 1 lower right, 2 upper right, 3 upper left; side i goes from corner i to the next. */
const CORNERS = [[0, 0], [1, 0], [1, 1], [0, 1]];

/** Where a grid [rows × columns] passes `level`: Float32Array [segments × (x, y, x, y)] in cells (Lorensen & Cline 1987, in 2-D). */
export function outline(grid, columns, rows, level) {
  const found = [];
  for (let row = 0; row + 1 < rows; row++) {
    for (let column = 0; column + 1 < columns; column++) {
      const at = row * columns + column;
      const high = grid[at] >= level;
      if (high === grid[at + 1] >= level && high === grid[at + columns] >= level && high === grid[at + columns + 1] >= level) continue;
      const values = [grid[at], grid[at + 1], grid[at + columns + 1], grid[at + columns]];
      const sides = [0, 1, 2, 3].filter((i) => values[i] >= level !== values[(i + 1) % 4] >= level);
      const points = sides.map((i) => crossing(values, i, level, column, row));
      // Two opposite corners are high: what the middle is decides whether they are joined.
      const joined = sides.length === 4 && high === (values[0] + values[1] + values[2] + values[3]) / 4 >= level;
      const order = joined ? [0, 1, 2, 3] : sides.length === 4 ? [3, 0, 1, 2] : [0, 1];
      for (const i of order) found.push(...points[i]);
    }
  }
  return Float32Array.from(found);
}

function crossing(values, side, level, column, row) {
  const [[ax, ay], [bx, by]] = [CORNERS[side], CORNERS[(side + 1) % 4]];
  const share = (level - values[side]) / (values[(side + 1) % 4] - values[side]);
  return [column + ax + share * (bx - ax), row + ay + share * (by - ay)];
}
