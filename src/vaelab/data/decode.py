"""Pictures as people have them, in folders, zips and parquet files → pixels of one shape.

Nothing here imports torch: worker processes load this module alone.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.containers import ImageRef, UnavailablePicture, UnreadablePicture, page_of, read_head, read_item
from vaelab.data.contents import RECORD, PictureFacts, Tally
from vaelab.data.depths import Range, to_eight_bits
from vaelab.data.formats import HEAD_BYTES, identify, without_text
from vaelab.data.opening import MAX_PIXELS, WITH_FRAMES, deep_values, opened, orientation, page_numbers, turn_upright

Fit = Literal["crop", "pad"]
Background = Literal["white", "black"]
T = TypeVar("T")

MOST_BLOCKS = 256
"""Blocks that one pixel of the result covers along an axis; more are averaged beforehand."""
CACHED_ENTRIES = 1 << 14
"""Size of the largest table of area averages that is kept for the next picture."""
COLOURLESS = 6
"""Most that the channels of a grey picture differ by, for all that JPEG blurs."""
VERSION = 1
"""Increase it when pictures become readable that were not: what failed before is then tried again."""


class Problem(NamedTuple):
    """A picture that cannot be used."""

    position: int
    reason: str
    is_temporary: bool = False
    """The system did not hand it over; the picture itself may be in order."""


def decoder_version() -> str:
    """The versions that decide which pictures can be decoded: vaelab's own and those of the decoders."""
    found = [f"vaelab {VERSION}", f"pillow {PIL.__version__}"]
    heif = _installed("pillow-heif")
    return ", ".join([*found, f"pillow-heif {heif}"] if heif else found)


@lru_cache(8)
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class ResizePolicy:
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
    values: Range = "full"
    """Which values become black and white, of pictures with more than 8 bits."""


LOOKING = ResizePolicy(64, 64, 3, fit="pad")


def decode(content: bytes, policy: ResizePolicy, page: int = 0) -> NDArray[np.uint8]:
    """The pixels ``[H, W, C]`` of a picture file: one page, upright, on the background, shrunk by area averages.

    UnreadablePicture says what is wrong with it, whatever Pillow raises.
    """
    return decode_with_facts(content, policy, page)[0]


def decode_with_facts(content: bytes, policy: ResizePolicy, page: int = 0) -> tuple[NDArray[np.uint8], PictureFacts]:
    """The same, and what was found out about the picture."""

    def read(picture: Image.Image, source: PictureFacts) -> NDArray[np.uint8]:
        return _frame(_turn_upright(picture, policy, source), policy, source)

    return _read(content, page, policy, read)


@dataclass(frozen=True)
class Look:
    """What a picture is like, as far as it decides how a set of pictures is framed."""

    size: tuple[int, int]
    """Height and width, upright."""
    is_grey: bool
    source: PictureFacts
    flat_on: tuple[Background, ...] = ()
    """Backgrounds on which a picture with transparent parts is of one colour."""


def look(content: bytes, page: int = 0, max_pixels: int = MAX_PIXELS, values: Range = "full") -> Look:
    """What a picture is like; UnreadablePicture where ``decode`` would refuse it.

    ``values``: the range that it will be decoded with; "own" where that is to be found out.
    """
    policy = replace(LOOKING, max_pixels=max_pixels, values=values)

    def read(picture: Image.Image, source: PictureFacts) -> Look:
        width, height = picture.size
        upright = _turn_upright(picture, policy, source)
        pixels = _frame(upright, policy, source)
        is_turned = orientation(picture) >= 5  # of a TIFF Pillow has turned the size itself, and forgotten the tag
        spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
        flat_on: list[Background] = []
        if source.is_transparent:
            both: tuple[Background, ...] = ("white", "black")
            on = {colour: _frame(upright, replace(policy, background=colour, fit="crop"), source) for colour in both}
            flat_on = [colour for colour in both if (on[colour] == on[colour][0, 0]).all()]
        size = (width, height) if is_turned else (height, width)
        return Look(size, int(spread.max()) <= COLOURLESS, source, tuple(flat_on))

    return _read(content, page, policy, read)[0]


def _read(
    content: bytes, page: int, policy: ResizePolicy, read: Callable[[Image.Image, PictureFacts], T]
) -> tuple[T, PictureFacts]:
    """What ``read`` makes of the picture in a file's bytes; a PNG that fails is tried again without its texts."""
    while True:
        source = PictureFacts()
        try:
            with opened(content, page, policy.max_pixels, policy.values, source) as picture:
                return read(picture, source), source
        except UnreadablePicture:
            lean = without_text(content)
            if lean is None:
                raise
            content = lean


def _turn_upright(picture: Image.Image, policy: ResizePolicy, source: PictureFacts) -> Image.Image:
    if policy.boxed_only and picture.size != policy.boxed:
        raise UnreadablePicture(
            f"{picture.width}×{picture.height} pixels instead of {policy.boxed[0]}×{policy.boxed[1]}"
        )
    return turn_upright(picture, None if policy.box else 2 * max(policy.height, policy.width), source)


# -- from a picture to pixels -----------------------------------------------------------------------------------------


def _frame(picture: Image.Image, policy: ResizePolicy, source: PictureFacts) -> NDArray[np.uint8]:
    target = inner = (policy.width, policy.height)
    box = (0, 0, *picture.size)
    if policy.box is not None and picture.size == policy.boxed:
        box = policy.box
    elif policy.fit == "crop":
        box = _middle(picture.size, target)
    else:
        inner = _largest_within(picture.size, target)
    part = picture if box == (0, 0, *picture.size) else picture.crop(box)
    pixels = _resize(_flatten(part, policy, source), inner)
    if inner == target:
        return pixels
    canvas = np.full(
        (policy.height, policy.width, policy.channels),
        255 * (policy.background == "white"),
        np.uint8,
    )
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


def _flatten(picture: Image.Image, policy: ResizePolicy, source: PictureFacts) -> Image.Image:
    """Grey or RGB with 8 bits, transparent parts on the background."""
    values = deep_values(picture, source)
    if values is not None:
        picture = Image.fromarray(to_eight_bits(values, policy.values, source))
    elif picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        opacity = picture.getchannel("A")
        source.is_transparent = opacity.getextrema() != (255, 255)
        if policy.background == "none" and source.is_transparent:
            raise UnreadablePicture("has transparent parts; put it on a background first (digits are white on black)")
        behind = Image.new("RGB", picture.size, "black" if policy.background == "none" else policy.background)
        behind.paste(picture, mask=opacity)
        picture = behind
    return picture.convert("L" if policy.channels == 1 else "RGB")


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
    start: int, path: str, offset: int, items: Sequence[ImageRef], policy: ResizePolicy, records_path: str
) -> tuple[int, list[Problem]]:
    """Decode ``items``, write their pixels from byte ``offset`` of a file on, and what was found out about them.

    The latter goes into an array of ``RECORD`` in a ``.npy``, from row ``start`` on. Returns ``start`` and the pictures
    that cannot be read; those leave black pixels. The bytes are on the disk when this returns.
    """
    block = np.zeros((len(items), policy.height, policy.width, policy.channels), np.uint8)
    records = np.zeros(len(items), RECORD)
    problems = _decode_all(items, policy, block, records)
    for name, position, content in ((path, offset, block), (records_path, _position(records_path, start), records)):
        with open(name, "r+b") as file:
            file.seek(position)
            file.write(content.data)
            file.flush()
            os.fsync(file.fileno())
    return start, problems


def _position(records_path: str, row: int) -> int:
    """Where in a file of records a row begins."""
    with open(records_path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell() + row * RECORD.itemsize


def examine(start: int, items: Sequence[ImageRef], policy: ResizePolicy) -> tuple[int, tuple[list[Problem], Tally]]:
    """``start``, and which of ``items`` cannot be decoded and what the others hold; rows count from ``start``."""
    block = np.empty((len(items), policy.height, policy.width, policy.channels), np.uint8)
    records = np.zeros(len(items), RECORD)
    problems = _decode_all(items, policy, block, records)
    rows = np.delete(np.arange(len(items)), [problem.position for problem in problems])
    tally = Tally()
    tally.add(start + rows, block[rows], records[rows])
    return start, (problems, tally)


def _decode_all(
    items: Sequence[ImageRef], policy: ResizePolicy, block: NDArray[np.uint8], records: NDArray[Any]
) -> list[Problem]:
    """Decode ``items`` into rows of ``block`` and ``records``; those that cannot be decoded are returned."""
    problems: list[Problem] = []
    content, content_of = b"", None
    for i, item in enumerate(items):
        try:
            if content_of != item[:2]:  # pages of one file follow each other
                content, content_of = read_item(item), item[:2]
            block[i], source = decode_with_facts(content, policy, page_of(item))
            records[i] = source.as_record()
        except UnreadablePicture as error:
            problems.append(Problem(i, str(error), isinstance(error, UnavailablePicture)))
    return problems


def count_pages(start: int, items: Sequence[ImageRef]) -> tuple[int, list[list[int]]]:
    """``start``, and the numbers of the pages of each file: [0] if it is damaged, none if the system refuses it."""
    return start, [_pages_of(item) for item in items]


def _pages_of(item: ImageRef) -> list[int]:
    try:
        kind = identify(read_head(item, HEAD_BYTES))
        return page_numbers(read_item(item)) if kind in ("TIFF", *WITH_FRAMES) else [0]
    except UnavailablePicture:
        return []
    except UnreadablePicture:
        return [0]
