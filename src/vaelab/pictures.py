"""Pictures in files: reading people's own, sheets of many, PNG."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.containers import PICTURE_SUFFIXES, Item, Unreadable, printable, read_item, shown
from vaelab.decoding import Framing, decode
from vaelab.images import Images, as_model_input, to_uint8
from vaelab.runtime import progress
from vaelab.scanning import scan


def read_pictures(
    path: Path, image_shape: tuple[int, int, int], framing: Framing | None = None
) -> tuple[Images, list[str]]:
    """Pictures at a model's size, and a name for each.

    ``path`` is one picture, a folder or .zip of them (searched through and through), a ``.npy``, or an ``.npz`` whose
    first array holds the images, which must have the model's size. ``framing`` says how pictures come to theirs (None:
    cut to shape about the centre and resized, transparent parts refused). ValueError names the first unreadable one.
    """
    if path.is_file() and path.suffix in (".npy", ".npz"):
        x, _ = as_model_input(read_arrays(path)[0], image_shape)
        return Images(to_uint8(x), source=str(path)), [f"{path.name}[{i}]" for i in range(len(x))]
    found = scan(path)
    if not found.entries:
        looked_for = ", ".join(sorted(PICTURE_SUFFIXES))
        shut = f"; {printable(found.closed[0][0])} cannot be opened ({found.closed[0][1]})" if found.closed else ""
        raise FileNotFoundError(f"{path}: no pictures in it (looked for {looked_for}){shut}")
    channels, height, width = image_shape
    framing = framing or Framing(height, width, channels, background="none")
    pixels = np.empty((len(found.entries), height, width, channels), np.uint8)
    with progress("reading pictures", len(pixels)) as bar:
        for i, entry in enumerate(found.entries):
            pixels[i] = _read_picture(path, entry.item, framing)
            bar.advance(1)
    return Images(pixels, source=str(path)), [shown(entry.item) for entry in found.entries]


def _read_picture(path: Path, item: Item, framing: Framing) -> NDArray[np.uint8]:
    try:
        return decode(read_item(item), framing)
    except Unreadable as error:
        where = path if path.name == item[1] else path / shown(item)
        raise ValueError(f"{where}: {error}") from None


def read_arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """The arrays of these names in an ``.npz``, without names its first; that of a ``.npy``. ValueError if damaged."""
    try:
        with path.open("rb") as file:  # NumPy leaves a damaged file open that it opened itself
            loaded = np.load(file, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else loaded
            wanted = names or tuple(arrays)[:1]
            if not wanted:
                raise ValueError("it holds no arrays")
            return [arrays[name] for name in wanted]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).strip("'\"")
        raise ValueError(f"{path}: not a NumPy file with such arrays, or damaged ({reason})") from None


def tile(pixels: NDArray[np.uint8], columns: int, *, gap: int = 2, paper: int = 255) -> NDArray[np.uint8]:
    """Images ``[N, H, W, C]`` as one picture with ``columns`` a row and ``gap`` pixels between them."""
    count, height, width, channels = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), paper, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap))
        sheet[top : top + height, left : left + width] = image
    return sheet


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """One image ``[H, W, C]`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
