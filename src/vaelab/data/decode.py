"""Decodes picture files of any size and format to pixels of one shape.

Neither this module nor what it imports loads torch, so that worker processes start fast and stay small.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.arrays import as_eight_bits
from vaelab.data.containers import (
    ImageRef,
    UnavailablePicture,
    UnreadablePicture,
    describe_error,
    page_number,
    read_head,
    read_item,
)
from vaelab.data.contents import PictureFacts, Tally
from vaelab.data.depths import Range, to_eight_bits
from vaelab.data.formats import HEAD_BYTES, identify, without_text
from vaelab.data.opening import MAX_PIXELS, WITH_FRAMES, deep_values, open_page, orientation, page_numbers, turn_upright
from vaelab.data.values import NPY, decode_values, read_stored

Fit = Literal["crop", "pad"]
Background = Literal["white", "black"]
T = TypeVar("T")

MAX_BLOCKS = 256
"""Blocks that one pixel of the result covers along an axis; larger pictures are averaged over blocks first."""
MAX_TABLE = 1 << 14
"""Entries of the largest table of area averages that is memoised."""
GREY_TOLERANCE = 6
"""Largest difference between the channels of a grey picture, which JPEG does not keep equal."""
VERSION = 1
"""Increase it when more pictures become readable, so that those that failed are tried again."""


class Problem(NamedTuple):
    """Why a picture cannot be decoded; temporary if the operating system did not return its file."""

    reason: str
    is_temporary: bool = False


def decoder_version() -> str:
    """Return the versions of vaelab's decoder and of the libraries that it uses."""
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
    """Crop to the proportions about the centre, or pad with margins."""
    background: Background | Literal["none"] = "white"
    """Colour of margins and behind transparent parts; "none" refuses pictures with transparent parts."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the part to take from pictures of the size ``boxed``."""
    boxed: tuple[int, int] = (0, 0)
    """Width and height that ``box`` refers to."""
    boxed_only: bool = False
    """Refuse pictures of another size than ``boxed``."""
    max_pixels: int = MAX_PIXELS
    """Refuse pictures with more pixels, before they are decoded."""
    values: Range = "full"
    """Values that become black and white, for pictures with more than 8 bits."""
    keeps_values: bool = False
    """Decode to any number of channels and to ``dtype`` instead of 8 bits in grey or RGB."""
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    stacks_pages: bool = False
    """Take the pages of a TIFF as channels."""

    def as_key(self) -> dict[str, Any]:
        """Return the policy as JSON for the key of a cache entry; entries of 8-bit pictures keep the keys they had."""
        fields = asdict(self)
        new = ("keeps_values", "dtype", "stacks_pages")
        return fields if self.keeps_values else {name: fields[name] for name in fields if name not in new}


LOOK_POLICY = ResizePolicy(64, 64, 3, fit="pad")


def decode(content: bytes, policy: ResizePolicy, page: int = 0) -> NDArray[Any]:
    """Return the pixels ``[H, W, C]`` of one page of a picture file: upright, on the background, resized by the policy.

    Raises UnreadablePicture with the reason; errors of Pillow are not passed on.
    """
    return decode_with_facts(content, policy, page)[0]


def decode_with_facts(content: bytes, policy: ResizePolicy, page: int = 0) -> tuple[NDArray[Any], PictureFacts]:
    """Return the same, and facts about the picture."""
    if policy.keeps_values or content[:6] == NPY:
        return decode_values(content, policy, page)

    def read(picture: Image.Image, source: PictureFacts) -> NDArray[np.uint8]:
        return _frame(_turn_upright(picture, policy, source), policy, source)

    return _read(content, page, policy, read)


@dataclass(frozen=True)
class Look:
    """Facts about a picture that decide the resize policy of its set."""

    size: tuple[int, int]
    """Height and width, upright."""
    is_grey: bool
    source: PictureFacts
    num_channels: int = 0
    """Channels in the file; 0 if it was looked at as a picture in grey or RGB."""
    flat_on: tuple[Background, ...] = ()
    """Backgrounds on which a picture with transparent parts shows one flat colour."""


def look_at_values(content: bytes, page: int, policy: ResizePolicy) -> Look:
    """Return facts about a picture whose values are kept; UnreadablePicture if ``decode`` would refuse it."""
    stored, _ = read_stored(content, page, policy.max_pixels, stacks_pages=policy.stacks_pages)
    _, facts = decode_values(content, replace(policy, height=8, width=8, channels=stored.shape[2]), page)
    return Look(stored.shape[:2], stored.shape[2] == 1, facts, stored.shape[2])


def look(content: bytes, page: int = 0, max_pixels: int = MAX_PIXELS, values: Range = "full") -> Look:
    """Return facts about a picture; UnreadablePicture if ``decode`` would refuse it.

    ``values``: the range to decode it with, or "own" to find one.
    """
    policy = replace(LOOK_POLICY, max_pixels=max_pixels, values=values)

    def read(picture: Image.Image, source: PictureFacts) -> Look:
        width, height = picture.size
        upright = _turn_upright(picture, policy, source)
        pixels = _frame(upright, policy, source)
        is_turned = orientation(picture) >= 5  # Pillow applies and removes the tag of a TIFF
        spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
        flat_on: list[Background] = []
        if source.is_transparent:
            both: tuple[Background, ...] = ("white", "black")
            on = {colour: _frame(upright, replace(policy, background=colour, fit="crop"), source) for colour in both}
            flat_on = [colour for colour in both if (on[colour] == on[colour][0, 0]).all()]
        size = (width, height) if is_turned else (height, width)
        return Look(size, int(spread.max()) <= GREY_TOLERANCE, source, flat_on=tuple(flat_on))

    return _read(content, page, policy, read)[0]


def _read(
    content: bytes, page: int, policy: ResizePolicy, read: Callable[[Image.Image, PictureFacts], T]
) -> tuple[T, PictureFacts]:
    """Apply ``read`` to the picture in a file's bytes; a PNG that fails is tried again without its text chunks."""
    while True:
        source = PictureFacts()
        try:
            with open_page(content, page, policy.max_pixels, policy.values, source) as picture:
                return read(picture, source), source
        except UnreadablePicture:
            lean = without_text(content)
            if lean is None:
                raise
            content = lean


def fit_picture(picture: Image.Image, policy: ResizePolicy) -> NDArray[np.uint8]:
    """Return the pixels ``[H, W, C]`` of a picture that Pillow has opened: upright, on the background, resized.

    Raises UnreadablePicture with the reason.
    """
    source = PictureFacts()
    try:
        return _frame(_turn_upright(picture, policy, source), policy, source)
    except UnreadablePicture:
        raise
    except Exception as error:  # decoders raise a dozen types
        raise UnreadablePicture(describe_error(error)) from None


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
    """Return left, top, right, bottom of the largest centred part, in whole pixels, with the target's proportions."""
    wide, high = size
    if wide * target[1] >= high * target[0]:
        wide = max(1, round(high * target[0] / target[1]))
    else:
        high = max(1, round(wide * target[1] / target[0]))
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    return left, top, left + wide, top + high


def _largest_within(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size with a picture's proportions that fits into the target."""
    if size[0] * target[1] >= size[1] * target[0]:
        return target[0], max(1, round(size[1] * target[0] / size[0]))
    return max(1, round(size[0] * target[1] / size[1])), target[1]


def _resize(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return pixels ``[H, W, C]`` at another size: area averages to shrink, bicubic interpolation to enlarge."""
    if picture.width >= size[0] and picture.height >= size[1] and picture.size != size:
        return _area_averages(picture, size)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.array(picture, np.uint8).reshape(size[1], size[0], -1)


def _area_averages(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mean over the area that each pixel of the result covers; pixels on its border count by their share.

    Large pictures are averaged over blocks first; a pixel of the result covers 4 to ``MAX_BLOCKS`` blocks along each
    axis. Integer arithmetic gives the same bytes on every machine. (Pillow's BOX filter counts a pixel on the border
    as in or out.)
    """
    wide, high = picture.size
    block = max(1, min(wide // size[0], high // size[1]) // 4)
    across, down = (
        max(block, length // (MAX_BLOCKS * count)) for length, count in zip((wide, high), size, strict=True)
    )
    values = np.asarray(picture.reduce((across, down)) if max(across, down) > 1 else picture)
    rows = _sums(values.reshape(*values.shape[:2], -1), high, size[1], down, np.int32)
    whole = np.int32 if 255 * wide * high < 1 << 31 else np.int64
    sums = _sums(rows.swapaxes(0, 1), wide, size[0], across, whole).swapaxes(0, 1)
    return ((sums + wide * high // 2) // (wide * high)).astype(np.uint8)


def _sums(values: NDArray[Any], length: int, count: int, block: int, kind: type[np.integer[Any]]) -> NDArray[Any]:
    """Return sums over ``count`` equal parts of the first axis, ``length`` pixels in blocks, in 1/count pixel."""
    is_small = count * (length // (block * count) + 2) <= MAX_TABLE
    positions, shares = (_memoised_shares if is_small else _shares)(length, count, block)
    total = np.zeros((count, *values.shape[1:]), kind)
    for position, share in zip(positions, shares, strict=True):
        total += values[position] * share.astype(kind)[:, None, None]
    return total


def _shares(length: int, count: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the blocks that each part touches, ``[blocks, count]``, and their covered lengths in 1/count pixel."""
    begins = np.arange(count) * length
    touched = begins // (block * count) + np.arange(-(-length // (block * count)) + 1)[:, None]
    first, last = touched * block * count, np.minimum((touched + 1) * block * count, length * count)
    covered = np.minimum(last, begins + length) - np.maximum(first, begins)
    return np.minimum(touched, (length - 1) // block), np.maximum(covered, 0)


_memoised_shares = lru_cache(64)(_shares)


def _flatten(picture: Image.Image, policy: ResizePolicy, source: PictureFacts) -> Image.Image:
    """Return the picture in grey or RGB with 8 bits, transparent parts on the background."""
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


# -- work of a worker process -----------------------------------------------------------------------------------------


def begin_worker(parent: int) -> None:
    """Ignore Ctrl-C, which the process ``parent`` handles, and exit when that process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_part(
    start: int, items: Sequence[ImageRef], policy: ResizePolicy, target: tuple[str, int] | None = None
) -> tuple[int, dict[int, Problem], Tally]:
    """Decode the pictures from row ``start`` on; write their pixels to ``target``, a file and a byte in it.

    Returns ``start``, row → problem of the pictures that cannot be decoded, whose pixels are black, and facts about the
    others. The bytes are on the disk when this returns.
    """
    block = np.zeros((len(items), policy.height, policy.width, policy.channels), policy.dtype)
    problems: dict[int, Problem] = {}
    facts: dict[int, PictureFacts] = {}
    content, content_of = b"", None
    for i, item in enumerate(items):
        try:
            if content_of != item[:2]:  # pages of one file follow each other
                content, content_of = read_item(item), item[:2]
            block[i], facts[i] = decode_with_facts(content, policy, page_number(item))
        except UnreadablePicture as error:
            problems[start + i] = Problem(str(error), isinstance(error, UnavailablePicture))
    if target is not None:
        path, offset = target
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(block.data)
            file.flush()
            os.fsync(file.fileno())
    tally, kept = Tally(), np.array(list(facts), np.int64)
    if len(kept):
        tally.add(start + kept, as_eight_bits(block[kept]), list(facts.values()))
    return start, problems, tally


def count_pages(start: int, items: Sequence[ImageRef]) -> tuple[int, list[list[int]]]:
    """Return ``start`` and the page numbers of each file: [0] if it is damaged, none if it could not be read."""
    return start, [_pages_of(item) for item in items]


def _pages_of(item: ImageRef) -> list[int]:
    try:
        kind = identify(read_head(item, HEAD_BYTES))
        return page_numbers(read_item(item)) if kind in ("TIFF", *WITH_FRAMES) else [0]
    except UnavailablePicture:
        return []
    except UnreadablePicture:
        return [0]
