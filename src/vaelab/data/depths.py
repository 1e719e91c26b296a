"""Converts pixel values of any depth to 8 bits. Imports no torch."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import UnreadablePicture
from vaelab.data.contents import PictureFacts

Range = tuple[float, float] | Literal["full", "own"]
"""Values that become black and white: (low, high), "full" range of the type, or each picture's "own" extremes."""
MAX_SAMPLE = 4096
"""Values of one picture that are kept as a sample."""
ADVICE = 'set data.range to "auto" or to [low, high], or convert them first'


def to_eight_bits(values: NDArray[Any], wanted: Range, source: PictureFacts) -> NDArray[np.uint8]:
    """Convert values of any numeric type to 8 bits; record their kind and extremes in ``source``.

    "full" divides 16-bit values by 257 and multiplies floating-point values in [0, 1] by 255. A range [low, high]
    becomes 0 to 255, with values outside clipped. UnreadablePicture if values are not finite or outside "full".
    """
    low, high = _extremes(values)
    source.numbers, source.low, source.high = describe_values(values.dtype, low, high), low, high
    if wanted == "own":
        flat = values.reshape(-1)
        source.sample = flat[:: -(-flat.size // MAX_SAMPLE)].astype(np.float64)
        wanted = (low, high if high > low else low + 1)
    if wanted == "full":
        return _whole_range(values, low, high, source.numbers)
    scale = 255 / (wanted[1] - wanted[0])
    result = np.empty(values.shape, np.uint8)
    for row, line in zip(result, values, strict=True):  # row by row, since float64 takes eight times the memory
        row[...] = np.clip(np.rint((line.astype(np.float64) - wanted[0]) * scale), 0, 255)
    return result


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadablePicture("holds values that are not finite (NaN or infinity); replace them first")
    return low, high


def _whole_range(values: NDArray[Any], low: float, high: float, numbers: str) -> NDArray[np.uint8]:
    if values.dtype.kind == "f":
        if low < 0 or high > 1:
            raise UnreadablePicture(f"{numbers} values from {low:g} to {high:g}, outside 0 … 1: {ADVICE}")
        return np.asarray((values * 255).round().astype(np.uint8))
    most = 255 if values.dtype.itemsize == 1 else 65535
    if low < 0 or high > most:
        raise UnreadablePicture(f"{numbers} values from {low:,.0f} to {high:,.0f}, outside 0 … {most:,}: {ADVICE}")
    if most == 255:
        return values.astype(np.uint8)
    return np.asarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def describe_values(kind: np.dtype[Any], low: float, high: float) -> str:
    """Return the kind of numbers in words; Pillow may keep 16-bit values in 32 bits."""
    if kind.kind == "f":
        return "floating-point"
    bits = 8 * kind.itemsize
    if bits == 32 and low >= 0 and high <= 65535:
        bits = 16
    return f"signed {bits}-bit" if low < 0 else f"{bits}-bit"


def robust_range(samples: list[NDArray[Any]]) -> tuple[float, float] | None:
    """Return the 0.1st and 99.9th percentile of the samples of a set; None if all values are equal.

    If the percentiles are equal, as for pictures of stars, the extremes are returned.
    """
    pooled = np.concatenate([sample.astype(np.float64) for sample in samples]) if samples else np.zeros(0)
    if not pooled.size or pooled.min() == pooled.max():
        return None
    low, high = np.percentile(pooled, [0.1, 99.9], method="nearest").tolist()
    return (low, high) if low < high else (float(pooled.min()), float(pooled.max()))
