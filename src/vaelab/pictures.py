"""Pictures in files: reading people's own, sheets of many, PNG."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vaelab.images import Images, as_model_input, to_uint8

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def read_pictures(path: Path, image_shape: tuple[int, int, int]) -> tuple[Images, list[str]]:
    """Pictures of exactly a model's size, and a name for each.

    ``path`` is one picture, a folder of them (searched through and through), a ``.npy``, or an ``.npz`` whose first
    array holds the images.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_file() and path.suffix in (".npy", ".npz"):
        x, _ = as_model_input(read_arrays(path)[0], image_shape)
        return Images(to_uint8(x), source=str(path)), [f"{path.name}[{i}]" for i in range(len(x))]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
        if not files:
            looked_for = ", ".join(sorted(PICTURE_SUFFIXES))
            raise FileNotFoundError(f"{path}: no pictures in this folder (looked for {looked_for})")
    else:
        files = [path]
    names = [str(file.relative_to(path)) if path.is_dir() else file.name for file in files]
    pixels = np.stack([_read_picture(file, image_shape) for file in files])
    return Images(pixels, source=str(path)), names


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


def _read_picture(path: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    channels, height, width = image_shape
    try:
        with Image.open(path) as picture:
            mode, info = picture.mode, dict(picture.info)
            is_clear = "A" in picture.getbands() and bool(np.asarray(picture.getchannel("A")).min() < 255)
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from None
    if is_clear or "transparency" in info:
        raise ValueError(f"{path}: has transparent parts; put it on a background first (digits are white on black)")
    if mode.startswith(("I", "F")):  # Pillow would cut them off at 255
        raise ValueError(f"{path}: more than 8 bits a pixel; convert it to 8 bits first")
    if pixels.shape[:2] != (height, width):
        raise ValueError(
            f"{path}: {pixels.shape[1]}×{pixels.shape[0]} pixels; this model wants {width}×{height}, resize it first"
        )
    return pixels.reshape(height, width, channels)


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
