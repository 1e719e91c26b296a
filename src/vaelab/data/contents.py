"""What pictures hold: facts about each as it is decoded, and their sum over a set. Imports no torch, as decoding.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = (8, 16, 32, 64)
NUMBERS = ("", *(f"{bits}-bit" for bits in BITS), *(f"signed {bits}-bit" for bits in BITS), "floating-point")
"""Kinds of values; the first stands for the 8 bits of most pictures."""
RECORD = np.dtype([("numbers", "u1"), ("flags", "u1"), ("num_pages", "<u4"), ("low", "<f8"), ("high", "<f8")])
"""``PictureFacts`` as a row of an array."""
TRANSPARENT, ALPHA_IGNORED = 1, 2
"""Flags of a record."""
BLOCK_VALUES = 1 << 24
"""Values of pixels that are counted at a time."""


@dataclass
class PictureFacts:
    """What decoding finds out about one picture file."""

    numbers: str = ""
    """Kind of its values, one of ``NUMBERS``."""
    low: float = 0.0
    high: float = 0.0
    """Smallest and largest of those values."""
    stored: str = ""
    """NumPy's name of their type in a TIFF, which Pillow takes for another at times."""
    sample: NDArray[Any] | None = None
    """Some of those values, evenly spaced."""
    num_pages: int = 1
    is_transparent: bool = False
    """Part of it shows the background."""
    is_alpha_ignored: bool = False
    """A BMP whose alpha is zero everywhere: it has none."""

    def as_record(self) -> tuple[int, int, int, float, float]:
        """The facts that are kept, as a row of ``RECORD``."""
        flags = TRANSPARENT * self.is_transparent + ALPHA_IGNORED * self.is_alpha_ignored
        return NUMBERS.index(self.numbers), flags, self.num_pages, self.low, self.high


@dataclass
class Tally:
    """What a set of pictures holds; every field is JSON."""

    count: int = 0
    low: int = 255
    high: int = 0
    """Smallest and largest value of all pixels, after decoding to 8 bits."""
    total: int = 0
    num_values: int = 0
    num_flat: int = 0
    """Pictures whose pixels are all of one colour."""
    first_flat: int | None = None
    """Row of the first of them."""
    num_flat_transparent: int = 0
    """Those of them that have transparent parts: the background may hide what they show."""
    deep: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    """Kind of values that are not 8-bit → number of pictures, smallest and largest value."""
    num_stacks: int = 0
    """Pictures from files with more pages than one."""
    num_more_pages: int = 0
    """Pages of those files beyond the first."""
    num_alpha_ignored: int = 0

    @property
    def mean(self) -> float:
        """Mean of all pixels, 0 to 255."""
        return self.total / self.num_values if self.num_values else 0.0

    def add(self, rows: NDArray[np.int64], pixels: Any, records: NDArray[Any]) -> None:
        """Count pictures: their rows in the set, their pixels ``[N, H, W, C]`` and their records."""
        step = max(1, BLOCK_VALUES // max(1, int(np.prod(pixels.shape[1:]))))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            self._add_block(rows[part], np.asarray(pixels[part]), records[part])

    def _add_block(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8], records: NDArray[Any]) -> None:
        lowest, highest = pixels.min((1, 2)), pixels.max((1, 2))
        flat = (lowest == highest).all(1)
        self.count += len(rows)
        self.low, self.high = min(self.low, int(lowest.min())), max(self.high, int(highest.max()))
        self.total += int(pixels.sum(dtype=np.int64))
        self.num_values += pixels.size
        self.num_flat += int(flat.sum())
        first = [int(row) for row in rows[flat][:1]]
        self.first_flat = min([*first, *([] if self.first_flat is None else [self.first_flat])], default=None)
        self.num_flat_transparent += int((flat & (records["flags"] & TRANSPARENT > 0)).sum())
        self.num_alpha_ignored += int((records["flags"] & ALPHA_IGNORED > 0).sum())
        self.num_stacks += int((records["num_pages"] > 1).sum())
        self.num_more_pages += int(np.maximum(records["num_pages"].astype(np.int64) - 1, 0).sum())
        for kind in np.unique(records["numbers"][records["numbers"] > 0]).tolist():
            those = records[records["numbers"] == kind]
            self._add_deep(NUMBERS[kind], len(those), float(those["low"].min()), float(those["high"].max()))

    def _add_deep(self, numbers: str, count: int, low: float, high: float) -> None:
        before = self.deep.get(numbers, (0, low, high))
        self.deep[numbers] = (before[0] + count, min(before[1], low), max(before[2], high))

    def merge(self, other: "Tally") -> None:
        """Add the pictures that ``other`` has counted."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        flat = [row for row in (self.first_flat, other.first_flat) if row is not None]
        self.first_flat = min(flat, default=None)
        for name in ("count", "total", "num_values", "num_flat", "num_flat_transparent"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("num_stacks", "num_more_pages", "num_alpha_ignored"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for numbers, (count, low, high) in other.deep.items():
            self._add_deep(numbers, count, low, high)


# -- sentences --------------------------------------------------------------------------------------------------------

FULL_SCALE = {"8-bit": 255.0, "16-bit": 65535.0, "floating-point": 1.0}
"""Kind of values → the one that becomes white in the full range."""
SMALL_SHARE = 0.25
"""A set that uses less of its range than this is dark or of low contrast."""
LARGE_SHARE = 0.1
"""So many flat pictures are more than a few black frames."""


def describe(tally: Tally, name_of: Callable[[int], str], *, counts_pages: bool = True) -> list[str]:
    """Sentences about range, mean, flat pictures and pages of a set.

    ``name_of``: row → name of a picture; ``counts_pages``: pages beyond the first are not used.
    """
    if not tally.count:
        return []
    sentences = [f"pixel values from {tally.low} to {tally.high}, mean {tally.mean:.1f} (of 255)"]
    for numbers, (count, low, high) in sorted(tally.deep.items()):
        sentences.append(f"{_count(count, 'picture')} of {numbers} values from {low:,.6g} to {high:,.6g}")
    if tally.num_flat:
        assert tally.first_flat is not None
        sentences.append(
            f"{tally.num_flat:,} of {_count(tally.count, 'picture')} {_are(tally.num_flat)} one flat colour "
            f"(first: {name_of(tally.first_flat)})"
        )
    if tally.num_more_pages and counts_pages:
        sentences.append(
            f"{_count(tally.num_stacks, 'file')} with several pages: {_count(tally.num_more_pages, 'page')} beyond the "
            "first not used; --set data.pages=all takes each"
        )
    if tally.num_alpha_ignored:
        sentences.append(f"{_count(tally.num_alpha_ignored, 'BMP')} with an alpha of zeros: taken as opaque")
    return sentences


def warn(tally: Tally, is_full_range: bool, background: str) -> list[str]:
    """Sentences about what makes a set hardly worth training on, and the remedies.

    ``is_full_range``: values are not stretched; ``background``: its colour.
    """
    found = []
    for numbers, (_, low, high) in sorted(tally.deep.items()) if is_full_range else ():
        scale = FULL_SCALE.get(numbers)
        if scale is not None and high - low < SMALL_SHARE * scale:
            found.append(f"{numbers} values reach {high:,.6g} of {scale:,.6g}: --set data.range=auto")
    if not found and tally.count and tally.high - tally.low < SMALL_SHARE * 255:
        found.append(f"pixel values use only {tally.low} to {tally.high} of 0 to 255")
    if tally.num_flat >= max(1, LARGE_SHARE * tally.count):
        hidden = tally.num_flat_transparent >= tally.num_flat / 2
        other = "black" if background == "white" else "white"
        remedy = f"; most have transparent parts: --set data.background={other}" if hidden else ""
        found.append(
            f"{tally.num_flat:,} of {_count(tally.count, 'picture')} show one flat colour and nothing else{remedy}"
        )
    return found


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
