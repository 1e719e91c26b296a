"""Loss of every batch: combined and reconstruction loss above, KL divergence and other terms below."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.patheffects as effects
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
SETTLING = 0.1
"""Share of the batches, the first ones, that may lie above the view: they are far larger than all others."""
SHORTEST_MEAN = 25
"""Running means cover a hundredth of the batches. In short runs, they cover one in 25, but at most 10 batches."""


def collect(
    history: dict[str, NDArray[np.float64]],
    validation: dict[str, NDArray[np.float64]],
    terms: Sequence[Term],
    unit: str = "nats",
) -> Arrays:
    """Return loss and terms of every batch, their running means, and those of held-out images; ``unit`` of the loss."""
    count = len(history["step"])
    window = max(1, min(count // SHORTEST_MEAN, 10), count // 100)
    shown = {term.name: term.title for term in terms if term.name in history}
    names = ["loss", *shown]
    return {
        "step": history["step"],
        "window": window,
        "units": [unit, "nats" if all(term.unit == "nats" for term in terms) else ""],
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
        panels = ((upper, ["loss", "reconstruction"]), (lower, list(arrays["titles"])))
        for (axes, names), unit in zip(panels, arrays["units"], strict=True):
            _limit(axes, arrays, names)
            axes.set_ylabel(f"{unit} per image" if unit else "mean over images")
            axes.legend(loc="upper right" if axes is upper else "best", ncols=2, fontsize=10)
        mean = ", running mean (thick)" if arrays["window"] > 1 else ""
        upper.set_title(f"Loss of each batch{' (thin)' if mean else ''}{mean}, held-out images (marks)")
        lower.set_xlabel("batch")
        lower.set_xlim(0, max(float(arrays["step"][-1]), 1.0) * 1.01)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the curves."""
    every = _every(arrays)
    batches = "every batch" if every == 1 else f"every {every}th batch"
    if arrays["window"] == 1:
        return f"Lines: {batches}. Marks: held-out images."
    means = f"running means over {count_of(arrays['window'], 'batch', 'batches')}"
    return f"Thin lines: {batches}. Thick lines: {means}. Marks: held-out images."


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
    """Fit the view to the batches after the first ``SETTLING`` of the run, and say what lies above it."""
    curves = np.stack([arrays[name] for name in names])
    smooth = np.stack([arrays[f"smooth_{name}"] for name in names])
    begun = int(SETTLING * curves.shape[1])
    held_out = [arrays[f"validation_{name}"] for name in names if f"validation_{name}" in arrays]
    shown = np.concatenate([curves[:, begun:].ravel(), smooth[:, begun + arrays["window"] :].ravel(), *held_out])
    every, shown = curves[np.isfinite(curves)], shown[np.isfinite(shown)]
    if not len(shown):
        return
    low, high = float(min(every.min(), shown.min())), float(np.quantile(shown, 0.995))
    room = high - low or 0.05 * abs(high) or 1.0
    top, bottom = high + 0.25 * room, low - 0.06 * room
    axes.set_ylim(max(0.0, bottom) if low >= 0 else bottom, top)
    if every.max() > top:
        word = f"not shown: batches up to {every.max():.4g}"
        halo = [effects.withStroke(linewidth=3, foreground="white")]
        axes.annotate(word, (0.2, 0.97), xycoords="axes fraction", va="top", fontsize=10, color=INK, path_effects=halo)
