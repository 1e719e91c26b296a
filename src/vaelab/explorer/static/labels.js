// Labels of the map, moved apart so that none covers another.

/** Rounds in which labels move apart. */
const ROUNDS = 80;

/**
 * Returns copies of labels { x, y, width, height }, boxes about their middles in CSS pixels, moved until none overlaps another or an
 * obstacle of the same shape. They stay in a frame { width, height }, as far as there is room.
 */
export function separateLabels(labels, obstacles, frame) {
  const boxes = labels.map((label) => ({ ...label }));
  let moved = true;
  for (let round = 0; moved && round < ROUNDS; round++) {
    moved = false;
    boxes.forEach((box, i) => {
      for (let j = 0; j < i; j++) moved = push(box, boxes[j], true) || moved;
      for (const obstacle of obstacles) moved = push(box, obstacle, false) || moved;
      box.x = clamp(box.x, box.width / 2, frame.width - box.width / 2);
      box.y = clamp(box.y, box.height / 2, frame.height - box.height / 2);
    });
  }
  return boxes;
}

/** Pushes `a` off `b` along the axis of less overlap, or each off the other; returns whether they overlapped. */
function push(a, b, both) {
  const [dx, dy] = [a.x - b.x, a.y - b.y];
  const [overX, overY] = [(a.width + b.width) / 2 - Math.abs(dx), (a.height + b.height) / 2 - Math.abs(dy)];
  if (overX <= 0.01 || overY <= 0.01) return false;
  const [axis, over, distance] = overX < overY ? ["x", overX, dx] : ["y", overY, dy];
  const step = (distance < 0 ? -1 : 1) * over * (both ? 0.5 : 1);
  a[axis] += step;
  if (both) b[axis] -= step;
  return true;
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
