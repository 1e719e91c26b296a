"""Directories of TIFF files: how many pages there are, and why one cannot be read."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MOST_PAGES = 10_000
"""Pages of one file that are counted or read."""
MOST_VALUES = 1 << 16
"""Values of a tag that are read; none that is needed here has more."""
TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
"""Type of a tag → its code in ``struct``; others are not needed here."""
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, SAMPLES, KIND = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    277,
    339,
)
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
"""Sample format → what kind of numbers the pixels are."""


@dataclass(frozen=True)
class Directory:
    """The tags of one page."""

    tags: Mapping[int, tuple[int, ...]]
    is_little: bool

    def value(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_page(self) -> bool:
        """Whether this is a picture of its own, not a smaller version or the mask of another."""
        return not self.value(SUBFILE, 0) & 0b101 and self.value(OLD_SUBFILE, 1) != 2


def read_directories(content: bytes) -> Iterator[Directory]:
    """The directories of a TIFF or BigTIFF in their order, ``MOST_PAGES`` at most; ends where the file is damaged."""
    if content[:2] not in (b"II", b"MM") or len(content) < 16:
        return
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    number, field, entry = ("Q", 8, 20) if is_big else ("H", 4, 12)
    offset_code = "Q" if is_big else "I"
    (offset,) = struct.unpack_from(order + offset_code, content, 8 if is_big else 4)
    seen: set[int] = set()
    try:
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(order + number, content, offset)
            first = offset + struct.calcsize(number)
            if first + count * entry > len(content):
                return
            tags = {}
            for position in range(first, first + count * entry, entry):
                tag, values = _read_tag(content, position, order, offset_code, field)
                if values:
                    tags[tag] = values
            yield Directory(tags, order == "<")
            (offset,) = struct.unpack_from(order + offset_code, content, first + count * entry)
    except struct.error:
        return


def _read_tag(content: bytes, position: int, order: str, offset_code: str, field: int) -> tuple[int, tuple[int, ...]]:
    """The number of a tag, and its values; none where they are of no type that is needed here."""
    tag, kind, count = struct.unpack_from(f"{order}HH{offset_code}", content, position)
    if kind not in TYPES or not 0 < count <= MOST_VALUES:
        return tag, ()
    layout, place = f"{order}{count}{TYPES[kind]}", position + 4 + field
    if struct.calcsize(layout) > field:
        (place,) = struct.unpack_from(order + offset_code, content, place)
    if place + struct.calcsize(layout) > len(content):
        return tag, ()
    return tag, struct.unpack_from(layout, content, place)


def page_numbers(content: bytes) -> list[int]:
    """Which directories are pages: smaller versions and masks are none."""
    return [i for i, directory in enumerate(read_directories(content)) if directory.is_page]


def explain(content: bytes) -> str | None:
    """Why the first page of a TIFF cannot be read; None if its tags do not tell."""
    page = next(read_directories(content), None)
    if page is None or WIDTH not in page.tags or HEIGHT not in page.tags:
        return "a TIFF without pages, or damaged at its beginning"
    samples, bits = page.value(SAMPLES, 1), page.tags.get(BITS, (1,))
    compression = page.value(COMPRESSION, 1)
    if not 1 <= samples <= 4:
        return f"a TIFF with {samples:,} channels; vaelab reads 1, 3 or 4"
    if len(set(bits)) > 1:
        return f"a TIFF whose channels differ in their bits: {', '.join(map(str, bits[:8]))}"
    if compression not in COMPRESSIONS:
        return f"a TIFF with compression {compression}, which is unknown"
    numbers = NUMBERS.get(page.value(KIND, 1), "unknown")
    channels = "1 channel" if samples == 1 else f"{samples} channels"
    return f"a TIFF with {channels} of {bits[0]}-bit {numbers} numbers ({COMPRESSIONS[compression]} compression)"
