"""Pictures as people have them, in folders, zips and parquet files → pixels of one shape.

Nothing here imports torch: worker processes load this module alone.
"""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.containers import Item, Unreadable, read_item, reason_of
from vaelab.formats import open_picture, without_text

Fit = Literal["crop", "pad"]
Background = Literal["white", "black"]
T = TypeVar("T")
Problem = tuple[int, str]
"""Position of a picture that cannot be used, and why."""

MAX_PIXELS = 89_000_000
"""Default limit for one picture, against decompression bombs."""
MOST_SIDE = 1_000_000
"""Pixels along one side. Pillow keeps a pointer for each row, so the height costs memory whatever the area is."""
MOST_BLOCKS = 256
"""Blocks that one pixel of the result covers along an axis; more are averaged beforehand."""
CACHED_ENTRIES = 1 << 14
"""Size of the largest table of area averages that is kept for the next picture."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""EXIF's tag; from 5 on the picture lies on its side."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → what makes the picture upright."""
COLOURLESS = 6
"""Most that the channels of a grey picture differ by, for all that JPEG blurs."""


@dataclass(frozen=True)
class Framing:
    """How a picture of any size becomes pixels of one shape."""

    height: int
    width: int
    channels: int
    fit: Fit = "crop"
    """Cut what is too long off both ends, or add margins."""
    background: Background | Literal["none"] = "white"
    """Colour of margins, and of what lies behind transparent parts; "none" refuses those."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the part to take, of pictures that have ``boxed`` pixels."""
    boxed: tuple[int, int] = (0, 0)
    """Width and height that ``box`` refers to."""
    boxed_only: bool = False
    """Refuse pictures of another size than ``boxed``."""
    max_pixels: int = MAX_PIXELS
    """Refuse pictures with more pixels, before they are decoded."""


def decode(content: bytes, framing: Framing) -> NDArray[np.uint8]:
    """The pixels ``[H, W, C]`` of a picture file: first frame, upright, on the background, shrunk by area averages.

    Unreadable says what is wrong with it, whatever Pillow raises.
    """

    def read(picture: Image.Image) -> NDArray[np.uint8]:
        return _frame(_turn_upright(picture, framing), framing)

    return _read(content, framing.max_pixels, read)


def look(content: bytes, max_pixels: int = MAX_PIXELS) -> tuple[tuple[int, int], bool]:
    """Height and width of a picture, upright, and whether it is grey; Unreadable where ``decode`` would refuse it."""
    framing = Framing(64, 64, 3, fit="pad")

    def read(picture: Image.Image) -> tuple[tuple[int, int], bool]:
        width, height = picture.size
        pixels = _frame(_turn_upright(picture, framing), framing).astype(np.int16)
        is_turned = _orientation(picture) >= 5  # of a TIFF Pillow has turned the size itself, and forgotten the tag
        is_grey = int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= COLOURLESS
        return (width, height) if is_turned else (height, width), is_grey

    return _read(content, max_pixels, read)


def _read(content: bytes, max_pixels: int, read: Callable[[Image.Image], T]) -> T:
    """What ``read`` makes of the picture in a file's bytes; a PNG that fails is tried again without its texts."""
    try:
        with _open_picture(content, max_pixels) as picture:
            return read(picture)
    except Unreadable:
        lean = without_text(content)
        if lean is None:
            raise
    with _open_picture(lean, max_pixels) as picture:
        return read(picture)


@contextmanager
def _open_picture(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The picture in a file's bytes; whatever Pillow raises about it is Unreadable."""
    if max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)  # Pillow's own limit, which is for the process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes that are checked here
            with open_picture(content) as picture:
                _check_size(picture.size, max_pixels)
                yield picture
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"far too many pixels; {_too_many(max_pixels)}") from None
    except MemoryError:
        raise Unreadable("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise a dozen types for broken files
        raise Unreadable(reason_of(error)) from None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if max(size) > MOST_SIDE:
        raise Unreadable(f"{width}×{height} pixels; sides of more than {MOST_SIDE:,} are refused")
    if width * height > max_pixels:
        raise Unreadable(f"{width}×{height} pixels; {_too_many(max_pixels)}")


def _too_many(max_pixels: int) -> str:
    return f"the limit against decompression bombs is {max_pixels:,} (data.max_pixels)"


def _turn_upright(picture: Image.Image, framing: Framing) -> Image.Image:
    """The picture turned as its EXIF says, decoded no larger than it has to be."""
    if framing.boxed_only and picture.size != framing.boxed:
        raise Unreadable(f"{picture.width}×{picture.height} pixels instead of {framing.boxed[0]}×{framing.boxed[1]}")
    if framing.box is None and picture.format in ("JPEG", "MPO"):
        side = 2 * max(framing.height, framing.width)
        picture.draft(None, (side, side))  # decodes to 1/2, 1/4 or 1/8 several times faster
    picture.load()
    turn = TURNS.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata says nothing of the pixels
        return 1
    return found if isinstance(found, int) else 1


# -- from a picture to pixels -----------------------------------------------------------------------------------------


def _frame(picture: Image.Image, framing: Framing) -> NDArray[np.uint8]:
    target = inner = (framing.width, framing.height)
    box = (0, 0, *picture.size)
    if framing.box is not None and picture.size == framing.boxed:
        box = framing.box
    elif framing.fit == "crop":
        box = _middle(picture.size, target)
    else:
        inner = _largest_within(picture.size, target)
    part = picture if box == (0, 0, *picture.size) else picture.crop(box)
    pixels = _resize(_flatten(part, framing), inner)
    if inner == target:
        return pixels
    canvas = np.full((framing.height, framing.width, framing.channels), 255 * (framing.background == "white"), np.uint8)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = pixels
    return canvas


def _middle(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the largest part about the centre, in whole pixels, with the target's proportions."""
    wide, high = size
    if wide * target[1] >= high * target[0]:
        wide = max(1, round(high * target[0] / target[1]))
    else:
        high = max(1, round(wide * target[1] / target[0]))
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    return left, top, left + wide, top + high


def _largest_within(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest size with a picture's proportions that the target holds."""
    if size[0] * target[1] >= size[1] * target[0]:
        return target[0], max(1, round(size[1] * target[0] / size[0]))
    return max(1, round(size[0] * target[1] / size[1])), target[1]


def _resize(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels ``[H, W, C]`` at another size: area averages where the picture shrinks, cubic curves where it grows."""
    if picture.width >= size[0] and picture.height >= size[1] and picture.size != size:
        return _area_averages(picture, size)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.array(picture, np.uint8).reshape(size[1], size[0], -1)


def _area_averages(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The mean over the part of the picture that each pixel of the result covers, pixels on its border by their share.

    Large pictures are averaged over blocks first; a result's pixel covers four or more blocks along each axis, and at
    most ``MOST_BLOCKS``. The arithmetic is in whole numbers and gives the same bytes on every machine. (Pillow's BOX
    counts a pixel on the border as in or out.)
    """
    wide, high = picture.size
    block = max(1, min(wide // size[0], high // size[1]) // 4)
    across, down = (
        max(block, length // (MOST_BLOCKS * count)) for length, count in zip((wide, high), size, strict=True)
    )
    values = np.asarray(picture.reduce((across, down)) if max(across, down) > 1 else picture)
    rows = _sums(values.reshape(*values.shape[:2], -1), high, size[1], down, np.int32)
    whole = np.int32 if 255 * wide * high < 1 << 31 else np.int64
    sums = _sums(rows.swapaxes(0, 1), wide, size[0], across, whole).swapaxes(0, 1)
    return ((sums + wide * high // 2) // (wide * high)).astype(np.uint8)


def _sums(values: NDArray[Any], length: int, count: int, block: int, kind: type[np.integer[Any]]) -> NDArray[Any]:
    """Along the first axis, ``length`` pixels in blocks: sums over each of ``count`` equal parts, in 1/count pixels."""
    is_small = count * (length // (block * count) + 2) <= CACHED_ENTRIES
    positions, shares = (_cached_shares if is_small else _shares)(length, count, block)
    total = np.zeros((count, *values.shape[1:]), kind)
    for position, share in zip(positions, shares, strict=True):
        total += values[position] * share.astype(kind)[:, None, None]
    return total


def _shares(length: int, count: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The blocks that each part touches, ``[blocks, count]``, and how much of each it covers, in 1/count pixels."""
    begins = np.arange(count) * length
    touched = begins // (block * count) + np.arange(-(-length // (block * count)) + 1)[:, None]
    first, last = touched * block * count, np.minimum((touched + 1) * block * count, length * count)
    covered = np.minimum(last, begins + length) - np.maximum(first, begins)
    return np.minimum(touched, (length - 1) // block), np.maximum(covered, 0)


_cached_shares = lru_cache(64)(_shares)


def _flatten(picture: Image.Image, framing: Framing) -> Image.Image:
    """Grey or RGB with 8 bits, transparent parts on the background."""
    if picture.mode in SIXTEEN_BIT or picture.mode in ("I", "F"):
        picture = Image.fromarray(_eight_bits(picture))
    elif picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        opacity = picture.getchannel("A")
        if framing.background == "none" and np.asarray(opacity).min() < 255:
            raise Unreadable("has transparent parts; put it on a background first (digits are white on black)")
        behind = Image.new("RGB", picture.size, "black" if framing.background == "none" else framing.background)
        behind.paste(picture, mask=opacity)
        picture = behind
    return picture.convert("L" if framing.channels == 1 else "RGB")


def _eight_bits(picture: Image.Image) -> NDArray[np.uint8]:
    """16-bit values divided by 257, floating-point values in [0, 1] times 255."""
    values = np.asarray(picture)
    if picture.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise Unreadable("floating-point pixels outside 0 … 1: their range is unknown, convert them first")
        return (values * 255).round().astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise Unreadable("pixels outside 0 … 65535: their range is unknown, convert them first")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


# -- what a worker does -----------------------------------------------------------------------------------------------


def begin_worker(parent: int) -> None:
    """Leave a Ctrl-C to the process ``parent``, which then ends this one; end with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_into(
    start: int, path: str, offset: int, items: Sequence[Item], framing: Framing
) -> tuple[int, list[Problem]]:
    """Decode ``items`` and write their pixels from byte ``offset`` of a file on; ``start``, and what cannot be read.

    Those leave black pixels. The bytes are on the disk when this returns.
    """
    block = np.zeros((len(items), framing.height, framing.width, framing.channels), np.uint8)
    found = examine(start, items, framing, block)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
    return found


def examine(
    start: int, items: Sequence[Item], framing: Framing, into: NDArray[np.uint8] | None = None
) -> tuple[int, list[Problem]]:
    """``start``, and which of ``items`` cannot be decoded; the others go ``into`` an array, where one is given."""
    problems = []
    for i, item in enumerate(items):
        try:
            pixels = decode(read_item(item), framing)
        except Unreadable as error:
            problems.append((i, str(error)))
            continue
        if into is not None:
            into[i] = pixels
    return start, problems
