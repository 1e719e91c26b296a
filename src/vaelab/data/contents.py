"""Facts about pictures that decoding finds, their sum over a set, and warnings that follow. Imports no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class PictureFacts:
    """Facts about one picture that decoding finds."""

    numbers: str = ""
    """Kind of its values, such as "16-bit"; empty for the 8 bits of most pictures."""
    low: float = 0.0
    high: float = 0.0
    """Smallest and largest of these values, if they are not 8-bit."""
    stored: str = ""
    """NumPy's name of their type in a TIFF, for which Pillow may use another."""
    sample: NDArray[Any] | None = None
    """Some of these values, evenly spaced."""
    num_pages: int = 1
    is_transparent: bool = False
    """Part of it shows the background."""
    is_alpha_ignored: bool = False
    """A BMP whose alpha is zero everywhere, which means that it has none."""


@dataclass
class Tally:
    """Sums of the facts about a set of pictures; every field is JSON."""

    count: int = 0
    low: int = 255
    high: int = 0
    """Smallest and largest value of all decoded pixels."""
    total: int = 0
    num_values: int = 0
    num_flat: int = 0
    """Pictures that show one flat colour."""
    first_flat: int | None = None
    """Row of the first of them."""
    num_flat_transparent: int = 0
    """Flat pictures with transparent parts, whose content the background may hide."""
    deep: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    """Kind of values that are not 8-bit → number of pictures, smallest and largest value."""
    num_stacks: int = 0
    """Pictures from files with several pages."""
    num_more_pages: int = 0
    """Pages of these files beyond the first."""
    num_alpha_ignored: int = 0

    @property
    def mean(self) -> float:
        """Mean of all pixels, 0 to 255."""
        return self.total / self.num_values if self.num_values else 0.0

    def add(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8], facts: Sequence[PictureFacts]) -> None:
        """Count pictures, given their rows in the set, their pixels ``[N, H, W, C]`` and the facts about each."""
        flat = (pixels.min((1, 2)) == pixels.max((1, 2))).all(1)
        first_flat = None if not flat.any() else int(rows[flat][0])
        for picture in facts:
            if picture.numbers:
                self._add_deep(picture.numbers, 1, picture.low, picture.high)
        self.merge(
            Tally(
                count=len(rows),
                low=int(pixels.min()),
                high=int(pixels.max()),
                total=int(pixels.sum(dtype=np.int64)),
                num_values=pixels.size,
                num_flat=int(flat.sum()),
                first_flat=first_flat,
                num_flat_transparent=sum(
                    is_flat and f.is_transparent for is_flat, f in zip(flat.tolist(), facts, strict=True)
                ),
                num_stacks=sum(f.num_pages > 1 for f in facts),
                num_more_pages=sum(f.num_pages - 1 for f in facts),
                num_alpha_ignored=sum(f.is_alpha_ignored for f in facts),
            )
        )

    def merge(self, other: "Tally") -> None:
        """Add the pictures that ``other`` has counted."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        flat = [row for row in (self.first_flat, other.first_flat) if row is not None]
        self.first_flat = min(flat, default=None)
        for name in vars(other):
            if name.startswith("num_") or name in ("count", "total"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for numbers, (count, low, high) in other.deep.items():
            self._add_deep(numbers, count, low, high)

    def _add_deep(self, numbers: str, count: int, low: float, high: float) -> None:
        before = self.deep.get(numbers, (0, low, high))
        self.deep[numbers] = (before[0] + count, min(before[1], low), max(before[2], high))


# -- sentences --------------------------------------------------------------------------------------------------------

FULL_SCALE = {"8-bit": 255.0, "16-bit": 65535.0, "floating-point": 1.0}
"""Kind of values → the value that becomes white in the full range."""
LOW_CONTRAST = 0.25
"""A set that uses a smaller share of its range causes a warning."""
MANY_FLAT = 0.1
"""A larger share of flat pictures causes a warning."""


def describe_content(tally: Tally, name_of: Callable[[int], str], *, counts_pages: bool = True) -> list[str]:
    """Return sentences about range, mean, flat pictures and pages of a set.

    ``name_of``: row → name of a picture. ``counts_pages``: pages beyond the first are not used.
    """
    if not tally.count:
        return []
    sentences = [f"pixel values from {tally.low} to {tally.high}, mean {tally.mean:.1f} (of 255)"]
    for numbers, (count, low, high) in sorted(tally.deep.items()):
        sentences.append(f"{_count(count, 'image')} of {numbers} values from {low:,.6g} to {high:,.6g}")
    if tally.num_flat:
        assert tally.first_flat is not None
        sentences.append(
            f"{tally.num_flat:,} of {_count(tally.count, 'image')} {_are(tally.num_flat)} one flat colour "
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


def find_warnings(tally: Tally, is_full_range: bool, background: str) -> list[str]:
    """Return warnings about low contrast and flat pictures, each with its remedy.

    ``is_full_range``: values are not stretched. ``background``: its colour.
    """
    found = []
    for numbers, (_, low, high) in sorted(tally.deep.items()) if is_full_range else ():
        scale = FULL_SCALE.get(numbers)
        if scale is not None and high - low < LOW_CONTRAST * scale:
            found.append(f"{numbers} values reach {high:,.6g} of {scale:,.6g}: --set data.range=auto")
    if not found and tally.count and tally.high - tally.low < LOW_CONTRAST * 255:
        found.append(f"pixel values use only {tally.low} to {tally.high} of 0 to 255")
    if tally.num_flat >= max(1, MANY_FLAT * tally.count):
        hidden = tally.num_flat_transparent >= tally.num_flat / 2
        other = "black" if background == "white" else "white"
        remedy = f"; most have transparent parts: --set data.background={other}" if hidden else ""
        found.append(
            f"{tally.num_flat:,} of {_count(tally.count, 'image')} show one flat colour and nothing else{remedy}"
        )
    return found


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
