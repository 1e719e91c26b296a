"""Loss of every batch: combined and reconstruction loss above, KL divergence and other terms below."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaelab.figures import BLUE, CLASS_COLOURS, FAINT, GREEN, INK, ORANGE, Arrays, house_style
from vaelab.models.terms import Term
from vaelab.system.messages import count_of

TITLE = "Losses"
ORDER = 10
SECTION = "training"
STYLES = ((GREEN, "D"), (FAINT, "^"), *((colour, "v") for colour in CLASS_COLOURS[5:]))
"""Colours and marks of the curves in the lower panel."""
MOST_POINTS = 6000
"""Largest number of batches in the figure; longer runs show every k-th batch."""


def collect(
    history: dict[str, NDArray[np.float64]], validation: dict[str, NDArray[np.float64]], terms: Sequence[Term]
) -> Arrays:
    """Return loss and terms of every batch in nats, their running means, and those of held-out images."""
    window = max(1, len(history["step"]) // 100)
    shown = {term.name: term.title for term in terms if term.unit == "nats" and term.name in history}
    names = ["loss", *shown]
    return {
        "step": history["step"],
        "window": window,
        "titles": {name: title for name, title in shown.items() if name != "reconstruction"},
        **{name: history[name] for name in names},
        **{f"smooth_{name}": running_mean(history[name], window) for name in names},
        "validation_step": validation.get("step", np.empty(0)),
        **{f"validation_{name}": validation[name] for name in names if name in validation},
    }


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each value and the ``window`` − 1 values before it, fewer at the start."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    means: NDArray[np.float64] = (sums[stop] - sums[start]) / (stop - start)
    return means


def draw(arrays: Arrays) -> Figure:
    """Draw two panels over the same batches."""
    with house_style():
        figure = Figure(figsize=(9, 6.4))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _curve(upper, arrays, "loss", "combined loss", BLUE, "o")
        _curve(upper, arrays, "reconstruction", "reconstruction loss", ORANGE, "s")
        for (name, title), (colour, marker) in zip(arrays["titles"].items(), cycle(STYLES), strict=False):
            _curve(lower, arrays, name, title, colour, marker)
        for axes, names in ((upper, ["loss", "reconstruction"]), (lower, list(arrays["titles"]))):
            _limit(axes, arrays, names)
            axes.set_ylabel("nats per image")
            axes.legend(loc="upper right" if axes is upper else "best", ncols=2, fontsize=10)
        upper.set_title("Loss of each batch (thin), running mean (thick), held-out images (marks)")
        lower.set_xlabel("batch")
        lower.set_xlim(0, max(float(arrays["step"][-1]), 1.0) * 1.01)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the curves."""
    every = _every(arrays)
    return (
        f"Thin lines: {'every batch' if every == 1 else f'every {every}th batch'}. Thick lines: running means over "
        f"{count_of(arrays['window'], 'batch', 'batches')}. Marks: held-out images."
    )


def _every(arrays: Arrays) -> int:
    return max(1, len(arrays["step"]) // MOST_POINTS)


def _curve(axes: Axes, arrays: Arrays, name: str, label: str, colour: str, marker: str) -> None:
    every = _every(arrays)
    step = arrays["step"][::every]
    axes.plot(step, arrays[name][::every], color=colour, linewidth=0.4, alpha=0.35, rasterized=True)
    axes.plot(step, arrays[f"smooth_{name}"][::every], color=colour, linewidth=1.8, label=label)
    if f"validation_{name}" in arrays:
        axes.plot(
            arrays["validation_step"],
            arrays[f"validation_{name}"],
            linestyle="none",
            marker=marker,
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.4,
        )


def _limit(axes: Axes, arrays: Arrays, names: list[str]) -> None:
    """Clip the view above the few largest batches, mostly the first ones, and annotate their maximum."""
    values = np.concatenate([arrays[name] for name in names])
    values = values[np.isfinite(values)]
    if len(values) < 100:
        return
    low, high = values.min(), np.quantile(values, 0.995)
    top = high + 0.25 * (high - low)
    if values.max() > top > low:
        axes.set_ylim(max(0.0, low - 0.05 * (top - low)), top)
        axes.annotate(
            f"single batches up to {values.max():.4g}",
            (0.06, 0.97),
            xycoords="axes fraction",
            va="top",
            fontsize=9,
            color=INK,
        )
