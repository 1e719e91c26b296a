"""TIFF files: their pages, values that Pillow does not read or reads to 8 bits only, and why a file is refused.

Imports no torch.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import UnreadablePicture

MAX_PAGES = 10_000
"""Pages of one file that are counted."""
MAX_TAGS = 512
"""Tags of one page; a file with more is taken for damaged."""
MAX_VALUES = 1 << 20
"""Values of one tag, such as addresses of strips or tiles."""
TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
"""Type of a tag → its code in ``struct``; the others are not needed here."""
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS = 254, 255, 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANES, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, KIND = 322, 323, 324, 325, 338, 339
DEFLATE = (8, 32946)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
DTYPES = {
    **{(1, bits): f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(3, bits): f"f{bits // 8}" for bits in (16, 32, 64)},
}
"""(sample format, bits) → NumPy's name of the type."""
COMPRESSIONS = {
    1: "no",
    2: "CCITT",
    3: "CCITT fax 3",
    4: "CCITT fax 4",
    5: "LZW",
    6: "old JPEG",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
NUMBERS = {1: "whole", 2: "signed whole", 3: "floating-point", 5: "complex whole", 6: "complex"}
"""Sample format → kind of numbers."""


@dataclass(frozen=True)
class Directory:
    """The tags of one page, read on access."""

    content: bytes
    order: str
    """Byte order, "<" or ">"."""
    is_big: bool
    entries: Mapping[int, tuple[int, int, int]]
    """Tag → (type, number of values, position of the values or of their address)."""

    def values(self, tag: int) -> tuple[int, ...]:
        """Return the values of a tag; none if it is missing or damaged."""
        kind, count, place = self.entries.get(tag, (0, 0, 0))
        if kind not in TYPES or not 0 < count <= MAX_VALUES:
            return ()
        layout = f"{self.order}{count}{TYPES[kind]}"
        if struct.calcsize(layout) > (8 if self.is_big else 4):
            (place,) = struct.unpack_from(self.order + ("Q" if self.is_big else "I"), self.content, place)
        if place + struct.calcsize(layout) > len(self.content):
            return ()
        return struct.unpack_from(layout, self.content, place)

    def value(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return (*self.values(tag), default)[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.value(WIDTH, 0), self.value(HEIGHT, 0)

    @property
    def is_page(self) -> bool:
        """Whether this is a picture, not a thumbnail or a mask of another."""
        return not self.value(SUBFILE, 0) & 0b101 and self.value(OLD_SUBFILE, 1) != 2

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of the values; None if NumPy has no such type, or channels differ in it."""
        bits = self.values(BITS) or (1,)
        name = DTYPES.get((self.value(KIND, 1), bits[0]))
        return np.dtype(self.order + name) if name is not None and len(set(bits)) == 1 else None

    @property
    def alpha(self) -> int | None:
        """Number of the alpha channel; None if there is none."""
        colours = 3 if self.value(COLOURS, BLACK_IS_ZERO) == RGB else 1
        extra = self.values(EXTRA)
        return next((colours + i for i, kind in enumerate(extra) if kind in (1, 2)), None)


def read_directories(content: bytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF or BigTIFF, at most ``MAX_PAGES``; stop where the file is damaged."""
    if content[:2] not in (b"II", b"MM") or len(content) < 16:
        return
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    number, address, entry, header = ("Q", "Q", 20, 12) if is_big else ("H", "I", 12, 8)
    (offset,) = struct.unpack_from(order + address, content, 8 if is_big else 4)
    seen: set[int] = set()
    try:
        while offset and offset not in seen and len(seen) < MAX_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(order + number, content, offset)
            first = offset + struct.calcsize(number)
            if count > MAX_TAGS or first + count * entry > len(content):
                return
            entries: dict[int, tuple[int, int, int]] = {}
            for position in range(first, first + count * entry, entry):
                tag, kind, length = struct.unpack_from(f"{order}HH{address}", content, position)
                entries.setdefault(tag, (kind, length, position + header))
            yield Directory(content, order, is_big, entries)
            (offset,) = struct.unpack_from(order + address, content, first + count * entry)
    except (struct.error, OverflowError):  # an address beyond the file
        return


def read_directory(content: bytes, number: int) -> Directory | None:
    """Return a directory by its number, from 0; None if there is none."""
    return next((page for i, page in enumerate(read_directories(content)) if i == number), None)


def page_numbers(content: bytes) -> list[int]:
    """Return the numbers of the directories that are pages, without thumbnails and masks."""
    return [i for i, directory in enumerate(read_directories(content)) if directory.is_page]


def explain(content: bytes) -> str:
    """Describe the first page of a TIFF that cannot be read."""
    page = read_directory(content, 0)
    if page is None or 0 in page.size:
        return "a TIFF file without pages, or damaged at its beginning"
    samples, bits = page.value(SAMPLES, 1), page.values(BITS) or (1,)
    compression = page.value(COMPRESSION, 1)
    if samples < 1:
        return "a TIFF without channels"
    if samples > 4:
        return f"a TIFF with {samples:,} channels; to use all of them, set data.channels={samples}"
    if len(set(bits)) > 1:
        return f"a TIFF whose channels differ in their bits: {', '.join(map(str, bits[:8]))}"
    if compression not in COMPRESSIONS:
        return f"a TIFF with compression {compression}, which is unknown"
    numbers = NUMBERS.get(page.value(KIND, 1), "unknown")
    channels = "1 channel" if samples == 1 else f"{samples} channels"
    return f"a TIFF with {channels} of {bits[0]}-bit {numbers} numbers ({COMPRESSIONS[compression]} compression)"


# -- values -----------------------------------------------------------------------------------------------------------


def can_read_values(page: Directory, most_samples: int | None = 4) -> bool:
    """Return whether ``read_values`` reads a page: grey or RGB and further channels, uncompressed or deflated."""
    predictor = page.value(PREDICTOR, 1)
    return (
        page.dtype is not None
        and 0 not in page.size
        and page.value(COMPRESSION, 1) in (1, *DEFLATE)
        and (predictor == 1 or (predictor == 2 and page.dtype.kind in "ui"))
        and page.value(COLOURS, BLACK_IS_ZERO) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        and (most_samples is None or page.value(SAMPLES, 1) <= most_samples)
        and page.value(SAMPLES, 1) >= (3 if page.value(COLOURS, BLACK_IS_ZERO) == RGB else 1)
    )


def read_values(page: Directory) -> NDArray[Any]:
    """Return the stored values ``[H, W, S]`` of a page that ``can_read_values`` accepts.

    UnreadablePicture if some are missing.
    """
    assert page.dtype is not None
    (width, height), samples = page.size, page.value(SAMPLES, 1)
    is_tiled, is_planar = TILE_WIDTH in page.entries, page.value(PLANES, 1) == 2 and samples > 1
    wide, high = page.value(TILE_WIDTH, width), page.value(TILE_HEIGHT, height)
    if not is_tiled:
        wide, high = width, min(height, page.value(STRIP_ROWS, height) or height)
    offsets, counts = (page.values(tag) for tag in ((TILES, TILE_BYTES) if is_tiled else (STRIPS, STRIP_BYTES)))
    if wide < 1 or high < 1:
        raise UnreadablePicture("a damaged TIFF: its tiles have no size")
    places = [(top, left) for top in range(0, height, high) for left in range(0, width, wide)]
    planes = samples if is_planar else 1
    if min(len(offsets), len(counts)) < planes * len(places):
        raise UnreadablePicture("a damaged TIFF: parts of its pixels are missing")
    depth = samples // planes
    values = np.empty((height, width, samples), page.dtype.newbyteorder("="))
    for number, (offset, count) in enumerate(zip(offsets[: planes * len(places)], counts, strict=False)):
        plane, place = divmod(number, len(places))
        top, left = places[place]
        rows = high if is_tiled else min(high, height - top)
        block = _read_block(page, offset, count, (rows, wide, depth))
        part = values[top : top + high, left : left + wide, plane : plane + depth]
        part[...] = block[: part.shape[0], : part.shape[1]]
    return values


def _read_block(page: Directory, offset: int, count: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return one strip or tile; UnreadablePicture if it is cut off."""
    assert page.dtype is not None
    size = shape[0] * shape[1] * shape[2] * page.dtype.itemsize
    raw = page.content[offset : offset + count]
    if page.value(COMPRESSION, 1) in DEFLATE:
        try:
            raw = zlib.decompressobj().decompress(raw, size)
        except zlib.error as error:
            raise UnreadablePicture(f"a damaged TIFF: {error}") from None
    if len(raw) < size:
        raise UnreadablePicture("a damaged TIFF: parts of its pixels are missing")
    block = np.frombuffer(raw, page.dtype, size // page.dtype.itemsize).reshape(shape)
    if page.value(PREDICTOR, 1) == 2:
        block = np.cumsum(block, axis=1, dtype=page.dtype.newbyteorder("="))
    return block
