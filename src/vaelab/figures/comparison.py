"""Metrics of several runs: one panel per quantity, one line per recipe, one point per seed."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from vaelab.figures import BLUE, FAINT, INK, Arrays, clean_text, house_style

TITLE = "Comparison"
ORDER = 90
SECTION = "comparison"
COLUMNS = 4
LINE = 0.27
"""Distance between recipes in inches."""


def draw(arrays: Arrays) -> Figure:
    """Draw a panel per quantity, with recipe names at the left of each row and means at the right."""
    labels, panels = [clean_text(label) for label in arrays["labels"]], arrays["panels"]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    longest = max(len(label) for label in labels)
    with house_style():
        size = (1.0 + 0.075 * longest + 2.85 * columns, rows * (1.05 + LINE * len(labels)) + 0.2)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.04, hspace=0.06))
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, axes in enumerate(grid.flat):
            if i >= len(panels):
                axes.set_axis_off()
                continue
            _panel(axes, panels[i], len(labels))
            if i % columns == 0:
                axes.set_yticks(range(len(labels)), labels, color=INK, fontsize=10)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the marks and say what was measured."""
    images = " or ".join(f"{count:,}" for count in arrays["images"])
    remarks = "".join(f" {remark[0].upper()}{remark[1:]}." for remark in arrays["remarks"])
    return (
        f"Measured on {images} held-out images, nats per image. Rings are runs, with standard errors where known. "
        f"Strokes and the numbers at the right are means over the seeds of a recipe.{remarks}"
    )


def _panel(axes: Axes, panel: dict[str, Any], count: int) -> None:
    means = [_mean(values) for values in panel["values"]]
    for row, (values, errors) in enumerate(zip(panel["values"], panel["errors"], strict=True)):
        axes.axhline(row, color=FAINT, linewidth=0.5, alpha=0.35, zorder=0)
        axes.errorbar(
            values, [row] * len(values), xerr=np.nan_to_num(errors), color=BLUE, linestyle="none", marker="o",
            markersize=6, markerfacecolor="white", markeredgewidth=1.4, elinewidth=1.2, capsize=0, zorder=2,
        )  # fmt: skip
        if len(values) > 1:
            axes.plot([means[row]] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2.2, zorder=3)
        word = "–" if np.isnan(means[row]) else number(means[row])
        axes.annotate(
            word, (1.0, row), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9)
    _scale(axes, panel)
    title, unit = panel["title"], f", {panel['unit']}" if panel["unit"] else ""
    axes.set_title(f"{title[0].upper() if title.isascii() else title[0]}{title[1:]}{unit}", fontsize=10, pad=8)
    notes = [f"{panel['better']} is better"] if panel["better"] else []
    if panel.get("baseline") is not None:
        axes.axvline(panel["baseline"], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        notes.append(f"dotted: {panel['baseline_title']}")
    if notes:
        axes.set_xlabel("; ".join(notes), fontsize=8, color=FAINT, loc="left")


def _scale(axes: Axes, panel: dict[str, Any]) -> None:
    """Set limits with a margin and a few round ticks, whole numbers for counts."""
    values, errors = (np.array([x for group in panel[key] for x in group]) for key in ("values", "errors"))
    values, errors = values[np.isfinite(values)], np.nan_to_num(errors[np.isfinite(values)])
    is_counted = bool((values % 1 == 0).all())
    others = [panel["baseline"]] if panel.get("baseline") is not None else []
    low, high = float(min([*(values - errors), *others])), float(max([*(values + errors), *others]))
    room = max(0.12 * (high - low), 1.0 if is_counted else 0.0) or 0.05 * abs(high) or 1.0
    axes.set_xlim(low - room, high + room)
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
