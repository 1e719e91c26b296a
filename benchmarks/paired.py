"""Statistics of interleaved repetitions: order of the rivals, medians with ranges, ratios within a repetition."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Median and range of repeated measurements."""

    median: float
    lowest: float
    highest: float


def rotate(names: Sequence[str], by: int) -> list[str]:
    """Order of a repetition. Over repetitions every name comes first equally often."""
    start = by % len(names)
    return [*names[start:], *names[:start]]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Median and range of the values that are not None; None if there are none."""
    found = [value for value in values if value is not None]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def paired_ratios(costs: Sequence[float | None], ours: Sequence[float | None]) -> list[float]:
    """Cost of a rival over ours in each repetition that has both; above 1, ours is smaller."""
    return [
        cost / mine
        for cost, mine in zip(costs, ours, strict=True)
        if cost is not None and mine is not None and mine > 0
    ]
