"""What pictures hold: facts about each as it is decoded, and their sum over a set. Imports no torch, as decoding.py."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Source:
    """What decoding finds out about one picture file."""

    numbers: str = ""
    """Kind of its values, such as "16-bit", where they are not 8-bit."""
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
    """Those of them that are flat on this background and have transparent parts."""
    deep: dict[str, list[float]] = field(default_factory=dict)
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

    def add(self, row: int, pixels: NDArray[np.uint8], source: Source) -> None:
        """Count one picture, decoded to ``pixels`` [H, W, C]."""
        lowest, highest = pixels.min((0, 1)), pixels.max((0, 1))
        is_flat = bool((lowest == highest).all())
        self.merge(
            Tally(
                count=1,
                low=int(lowest.min()),
                high=int(highest.max()),
                total=int(pixels.sum(dtype=np.int64)),
                num_values=pixels.size,
                num_flat=int(is_flat),
                first_flat=row if is_flat else None,
                num_flat_transparent=int(is_flat and source.is_transparent),
                deep={source.numbers: [1, source.low, source.high]} if source.numbers else {},
                num_stacks=int(source.num_pages > 1),
                num_more_pages=source.num_pages - 1,
                num_alpha_ignored=int(source.is_alpha_ignored),
            )
        )

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
            before = self.deep.get(numbers, [0, low, high])
            self.deep[numbers] = [before[0] + count, min(before[1], low), max(before[2], high)]
