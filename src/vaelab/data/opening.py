"""Opens the bytes of a picture file as an upright Pillow image. Imports no torch."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.data import tiff
from vaelab.data.containers import UnavailablePicture, UnreadablePicture, describe_error
from vaelab.data.contents import PictureFacts
from vaelab.data.depths import Range, to_eight_bits
from vaelab.data.formats import HEAD_BYTES, identify, open_picture

MAX_PIXELS = 89_000_000
"""Default limit of pixels in one picture, against decompression bombs."""
MAX_SIDE = 1_000_000
"""Limit of pixels along one side: Pillow keeps a pointer for each row, even if the picture is narrow."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""EXIF tag; from 5 on the picture lies on its side."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → transposition that makes the picture upright."""
WITH_FRAMES = ("PNG", "GIF", "WebP", "AVIF")
"""Formats with animations; further frames of a JPEG or HEIC are previews, depth maps or stereo pairs."""


def page_numbers(content: bytes) -> list[int]:
    """Return the numbers of the pages of a TIFF or the frames of an animation; [0] for every other file."""
    kind = identify(content[:HEAD_BYTES])
    if kind == "TIFF":
        return tiff.page_numbers(content) or [0]
    if kind not in WITH_FRAMES:
        return [0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(content) as picture:
                return list(range(min(_num_frames(picture), tiff.MAX_PAGES)))
    except Exception:  # decoding reports a damaged file
        return [0]


def _num_frames(picture: Image.Image) -> int:
    return max(1, int(getattr(picture, "n_frames", 1)))


@contextmanager
def open_page(content: bytes, page: int, max_pixels: int, wanted: Range, source: PictureFacts) -> Iterator[Image.Image]:
    """Open one page of a picture file, not decoded yet; every error of Pillow becomes UnreadablePicture.

    Pages of a TIFF that Pillow does not read, or reads to 8 bits although ``wanted`` needs more, are decoded by NumPy.
    """
    if max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)  # Pillow's limit holds for the process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata and sizes, which are checked here
            with _open_unchecked(content, page, max_pixels, wanted, source) as picture:
                check_size(picture.size, max_pixels)
                yield picture
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError:
        raise UnreadablePicture(f"far too many pixels; {_too_many(max_pixels)}") from None
    except MemoryError:
        raise UnavailablePicture("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise a dozen types
        raise UnreadablePicture(describe_error(error)) from None


def _open_unchecked(content: bytes, page: int, max_pixels: int, wanted: Range, source: PictureFacts) -> Image.Image:
    if identify(content[:HEAD_BYTES]) == "TIFF":
        directory = tiff.read_directory(content, page)
        source.num_pages = max(1, len(tiff.page_numbers(content)))
        if directory is not None and _is_for_numpy(directory, wanted):
            return _read_with_numpy(directory, max_pixels, wanted, source)
        try:
            picture = open_picture(content)
        except UnreadablePicture:
            if directory is None or not tiff.can_read_values(directory):
                raise
            return _read_with_numpy(directory, max_pixels, wanted, source)
        if directory is not None:
            source.stored = str(directory.dtype or "")
    else:
        picture = open_picture(content)
        source.num_pages = 1 if picture.format in ("MPO", "HEIF") else _num_frames(picture)
    if page:
        picture.seek(page)
    return picture


def _is_for_numpy(page: tiff.Directory, wanted: Range) -> bool:
    """Return whether Pillow does not read a page, reads it wrongly, or reads only its upper bits.

    UnreadablePicture if Pillow would read it wrongly, and NumPy cannot read it either.
    """
    kind, samples = str(page.dtype or "").lstrip("<>|="), page.value(tiff.SAMPLES, 1)
    is_swapped = page.order == ">" and page.value(tiff.COMPRESSION, 1) != 1 and kind in ("i2", "i4", "f4")
    if not tiff.can_read_values(page):
        if is_swapped and samples == 1:
            raise UnreadablePicture(f"{tiff.explain(page.content)}, big-endian: save it without compression")
        return False
    if samples == 1:
        return is_swapped or kind in ("u4", "u8", "i8", "f2", "f8")
    if kind == "u1":
        return samples == 2 and tiff.EXTRA not in page.entries
    if kind == "u2" and samples in (3, 4):
        return wanted != "full"
    return True


def _read_with_numpy(page: tiff.Directory, max_pixels: int, wanted: Range, source: PictureFacts) -> Image.Image:
    """Return a page of any depth as an 8-bit picture with its alpha channel and orientation."""
    check_size(page.size, max_pixels)
    values, alpha = tiff.read_values(page), page.alpha
    num_colours = 3 if page.value(tiff.COLOURS, tiff.BLACK_IS_ZERO) == tiff.RGB else 1
    pixels = values[..., :num_colours]
    if pixels.dtype != np.uint8:
        pixels = to_eight_bits(pixels, wanted, source)
    if page.value(tiff.COLOURS, tiff.BLACK_IS_ZERO) == tiff.WHITE_IS_ZERO:
        pixels = 255 - pixels
    if alpha is not None and alpha < values.shape[2] and values.dtype.kind in "uf":
        most = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
        opacity = np.clip(np.rint(values[..., alpha].astype(np.float64) * (255 / most)), 0, 255).astype(np.uint8)
        picture = Image.fromarray(np.dstack([pixels, opacity]))
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if num_colours == 1 else pixels))
    picture.getexif()[ORIENTATION] = page.value(tiff.ORIENTATION, 1)
    return picture


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise UnreadablePicture for a picture with more pixels than the limits."""
    width, height = size
    if max(size) > MAX_SIDE:
        raise UnreadablePicture(f"{width}×{height} pixels; the limit of a side is {MAX_SIDE:,}")
    if width * height > max_pixels:
        raise UnreadablePicture(f"{width}×{height} pixels; {_too_many(max_pixels)}")


def _too_many(max_pixels: int) -> str:
    return f"the limit against decompression bombs is {max_pixels:,} (data.max_pixels)"


def turn_upright(picture: Image.Image, side: int | None, source: PictureFacts) -> Image.Image:
    """Decode a picture and apply its EXIF orientation; a JPEG is decoded no larger than ``side`` needs."""
    if side is not None and picture.format in ("JPEG", "MPO"):
        picture.draft(None, (side, side))  # decodes at 1/2, 1/4 or 1/8, several times faster
    picture.load()
    turn = TURNS.get(orientation(picture))
    if picture.format == "BMP" and picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (0, 0):
        source.is_alpha_ignored = True  # an unused fourth byte
        picture = picture.convert("RGB")
    return picture if turn is None else picture.transpose(turn)


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none."""
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata does not affect the pixels
        return 1
    return found if isinstance(found, int) else 1


def deep_values(picture: Image.Image, source: PictureFacts) -> NDArray[Any] | None:
    """Return the values of a picture that are not unsigned 8-bit numbers; None if they are."""
    if picture.mode in SIXTEEN_BIT or picture.mode in ("I", "F"):
        values = np.asarray(picture)
        return values.view(np.uint32) if source.stored.endswith("uint32") and picture.mode == "I" else values
    if picture.mode == "L" and source.stored == "int8":
        return np.asarray(picture).view(np.int8)
    return None
