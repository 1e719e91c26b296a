"""Metrics of several runs: a panel per quantity, a line per recipe, a point per seed; what decides is large."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from vaelab.figures import BLUE, FAINT, INK, Arrays, clean_text, house_style

TITLE = "Comparison"
ORDER = 90
SECTION = "comparison"
MOST_LARGE = 6
"""Largest number of large panels; those of other quantities that decide are small."""


@dataclass(frozen=True)
class _Size:
    """Sizes of one kind of panel."""

    columns: int
    width: float
    """Inches that a panel takes."""
    line: float
    """Distance between recipes in inches."""
    frame: float
    """Height of title, ticks and notes in inches."""
    title: int
    """Font size; of numbers and names one point less, of ticks and notes two."""
    mark: float

    def wrap(self, words: str, font: int) -> str:
        """Break a text into lines that are no wider than a panel, at a mean width of 0.55 em per letter."""
        return textwrap.fill(words, int((self.width - 0.5) * 72 / (0.55 * font)))


LARGE = _Size(columns=3, width=3.8, line=0.36, frame=1.25, title=12, mark=8)
SMALL = _Size(columns=4, width=2.85, line=0.24, frame=1.15, title=10, mark=5)


def draw(arrays: Arrays) -> Figure:
    """Draw a panel per quantity, with recipe names at the left of each row and means at the right.

    Panels of the quantities that decide ("decides") are large and come first. The others are small.
    """
    labels, panels = [clean_text(label) for label in arrays["labels"]], arrays["panels"]
    large = [panel for panel in panels if panel.get("decides")][:MOST_LARGE] or panels
    small = [panel for panel in panels if not any(panel is each for each in large)]
    bands = [(group, size) for group, size in ((large, LARGE), (small, SMALL)) if group]
    heights = [-(-len(group) // size.columns) * (size.frame + size.line * len(labels)) for group, size in bands]
    widths = [min(size.columns, len(group)) * size.width for group, size in bands]
    names = 1.0 + 0.085 * max(len(label) for label in labels)
    with house_style():
        figure = Figure(figsize=(names + max(widths), sum(heights) + 0.2), layout=ConstrainedLayoutEngine())
        for part, (group, size) in zip(
            figure.subfigures(len(bands), 1, height_ratios=heights, squeeze=False)[:, 0], bands, strict=True
        ):
            _band(part, group, size, labels)
    return figure


def _band(part: SubFigure, panels: list[dict[str, Any]], size: _Size, labels: list[str]) -> None:
    """Draw panels of one size in rows and columns."""
    columns = min(size.columns, len(panels))
    grid = part.subplots(-(-len(panels) // columns), columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        if i >= len(panels):
            axes.set_axis_off()
            continue
        _panel(axes, panels[i], len(labels), size)
        if i % columns == 0:
            axes.set_yticks(range(len(labels)), labels, color=INK, fontsize=size.title - 1)


def caption(arrays: Arrays) -> str:
    """Explain the marks and say what was measured."""
    images = " or ".join(f"{count:,}" for count in arrays["images"])
    remarks = "".join(f" {remark[0].upper()}{remark[1:]}." for remark in arrays["remarks"])
    return (
        f"Measured on {images} held-out images, nats per image. Rings are runs, with standard errors if known. "
        f"Ticks and the numbers at the right are means over the seeds of a recipe.{remarks}"
    )


def _panel(axes: Axes, panel: dict[str, Any], count: int, size: _Size) -> None:
    means = [_mean(values) for values in panel["values"]]
    for row, (values, errors) in enumerate(zip(panel["values"], panel["errors"], strict=True)):
        axes.axhline(row, color=FAINT, linewidth=0.5, alpha=0.35, zorder=0)
        places = [row] * len(values)
        axes.errorbar(
            values, places, xerr=np.nan_to_num(errors), color=BLUE, linestyle="none", elinewidth=1.2, zorder=2
        )
        axes.plot(
            values, places, color=BLUE, linestyle="none", marker="o", markersize=size.mark, markerfacecolor="white",
            markeredgewidth=1.4, zorder=2.5, clip_on=False,
        )  # fmt: skip
        if len(values) > 1:
            axes.plot([means[row]] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2.2, zorder=3)
        word = "–" if np.isnan(means[row]) else number(means[row])
        axes.annotate(
            word, (1.0, row), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=size.title - 1, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=size.mark)
    axes.tick_params(axis="x", labelsize=size.title - 2)
    _scale(axes, panel)
    title, unit = panel["title"], f", {panel['unit']}" if panel["unit"] else ""
    words = f"{title[0].upper() if title.isascii() else title[0]}{title[1:]}{unit}"
    axes.set_title(size.wrap(words, size.title), fontsize=size.title, pad=8)
    notes = [f"{panel['better']} is better"] if panel["better"] else []
    if panel.get("baseline") is not None:
        axes.axvline(panel["baseline"], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        notes.append(f"dotted: {panel['baseline_title']}")
    if notes:
        axes.set_xlabel(size.wrap("; ".join(notes), size.title - 2), fontsize=size.title - 2, color=FAINT, loc="left")


def _scale(axes: Axes, panel: dict[str, Any]) -> None:
    """Set limits with a margin and a few round ticks, integers for counts."""
    values, errors = (np.array([x for group in panel[key] for x in group]) for key in ("values", "errors"))
    values, errors = values[np.isfinite(values)], np.nan_to_num(errors[np.isfinite(values)])
    is_counted = bool((values % 1 == 0).all())
    others = [panel["baseline"]] if panel.get("baseline") is not None else []
    low, high = float(min([*(values - errors), *others])), float(max([*(values + errors), *others]))
    room = max(0.12 * (high - low), 1.0 if is_counted else 0.0) or 0.05 * abs(high) or 1.0
    is_positive = min([*values, *others], default=0.0) >= 0
    axes.set_xlim(max(0.0, low - room) if is_positive else low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=is_counted, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    if abs(value) >= 1000:
        return number(round(value))
    return f"{round(value, 9):g}".replace("-", "−")


def _mean(values: list[float]) -> float:
    known: NDArray[np.float64] = np.array([value for value in values if np.isfinite(value)])
    return float(known.mean()) if len(known) else float("nan")


def number(value: float) -> str:
    """Format a number with enough digits to distinguish runs, and a true minus sign."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.4g} M".replace("-", "−")
    digits = 0 if size >= 1e4 or float(value).is_integer() else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{digits}f}".replace("-", "−")
