// Images as the models give them, uint8 [height × width × channel], on canvases and in files. Three or more channels are shown by
// their first three as RGB, two by their first in grey.

/** An ImageData of one image; `start`: where it begins in `pixels`. */
export function toImageData(pixels, { height, width, channels }, start = 0) {
  const data = new ImageData(width, height);
  for (let i = 0, from = start; i < height * width; i++, from += channels) {
    data.data[4 * i] = pixels[from];
    data.data[4 * i + 1] = pixels[from + (channels >= 3 ? 1 : 0)];
    data.data[4 * i + 2] = pixels[from + (channels >= 3 ? 2 : 0)];
    data.data[4 * i + 3] = 255;
  }
  return data;
}

/** Whether an image is so large that its pixels need not be seen one by one. */
export const isSmooth = ({ width }) => width > 48;

/** Paints one image on a canvas, one canvas pixel to a pixel; style sheets scale it (class "image": crisp, with "smooth" not). */
export function paint(canvas, pixels, shape, start = 0) {
  if (canvas.width !== shape.width || canvas.height !== shape.height) Object.assign(canvas, { width: shape.width, height: shape.height });
  canvas.classList.toggle("smooth", isSmooth(shape));
  canvas.getContext("2d").putImageData(toImageData(pixels, shape, start), 0, 0);
}

/** A canvas with `count` images side by side, `gap` pixels apart, in rows of `columns`. */
export function sheet(pixels, shape, count, columns = count, gap = 1) {
  const canvas = document.createElement("canvas");
  canvas.width = columns * (shape.width + gap) - gap;
  canvas.height = Math.ceil(count / columns) * (shape.height + gap) - gap;
  const context = canvas.getContext("2d");
  const size = shape.height * shape.width * shape.channels;
  for (let i = 0; i < count; i++) {
    const [column, row] = [i % columns, Math.floor(i / columns)];
    context.putImageData(toImageData(pixels, shape, i * size), column * (shape.width + gap), row * (shape.height + gap));
  }
  return canvas;
}

/** A copy of a canvas with every pixel `times` as large. */
export function enlarged(canvas, times) {
  const large = document.createElement("canvas");
  Object.assign(large, { width: canvas.width * times, height: canvas.height * times });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  return large;
}

/** Hands a Blob to the person as a file. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export const savePng = (canvas, name) => canvas.toBlob((blob) => save(blob, name), "image/png");
