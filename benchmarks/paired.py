"""Statistics of interleaved repetitions: the order of the rivals, medians with ranges, ratios within a repetition."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle of some repetitions, and how far they went."""

    median: float
    least: float
    most: float


def rotate(names: Sequence[str], by: int) -> list[str]:
    """The order of a repetition: every name comes first as often as the others."""
    start = by % len(names)
    return [*names[start:], *names[:start]]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Median and range of what was measured; None where nothing was."""
    found = [value for value in values if value is not None]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def paired_ratios(costs: Sequence[float | None], ours: Sequence[float | None]) -> list[float]:
    """A rival's cost over ours within each repetition that has both; above 1, ours is the smaller."""
    return [
        cost / mine
        for cost, mine in zip(costs, ours, strict=True)
        if cost is not None and mine is not None and mine > 0
    ]
