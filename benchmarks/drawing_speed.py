"""The figures of speed.py and growth.py."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from vaelab.figures import BLUE, FAINT, INK, ORANGE, house_style, render

COLOURS = {"plain": BLUE, "pythae": ORANGE}
RIVALS = {"plain": "the usual PyTorch script", "pythae": "Pythae"}
BAR = 0.36
WORDS = 0.36
"""Of the width, for the words at the end of the longest bar."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.write_bytes(render(figure, {}))


def draw_ratios(rows: list[dict[str, Any]], subtitle: str) -> Figure:
    """Bars: the cost of each rival over vaelab's, the median of the ratios within repetitions, whiskers their range.

    A row has ``title``, ``unit``, ``costs`` {rival: Spread | None} and ``ratios`` {rival: Spread | None}.
    """
    rows = [row for row in rows if any(row["ratios"].values())]
    with house_style():
        figure = Figure(figsize=(10.5, 1.9 + 0.72 * len(rows)))
        axes = figure.subplots()
        limit = max(ratio.most for row in rows for ratio in row["ratios"].values() if ratio)
        least = min(ratio.least for row in rows for ratio in row["ratios"].values() if ratio)
        for place, row in enumerate(rows):
            present = [rival for rival in COLOURS if row["ratios"].get(rival)]
            for i, rival in enumerate(present):
                _bar(axes, place + (i - (len(present) - 1) / 2) * BAR, row, rival)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xscale("log")
        left = min(0.5, 0.8 * least)
        axes.set_xlim(left, left * (limit / left) ** (1 / (1 - WORDS)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(rows)), [f"{row['title']}\n{_ours(row)}" for row in rows], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("cost of the rival over vaelab's (log scale): right of the line, vaelab needs less")
        figure.suptitle(f"What others need for the same work, vaelab = 1\n{subtitle}", x=0.01, ha="left", fontsize=11)
        handles = [Line2D([], [], color=COLOURS[key], linewidth=9, label=RIVALS[key]) for key in _rivals(rows)]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _rivals(rows: list[dict[str, Any]]) -> list[str]:
    return [rival for rival in COLOURS if any(row["ratios"].get(rival) for row in rows)]


def _ours(row: dict[str, Any]) -> str:
    ours = row["costs"]["vaelab"]
    return f"vaelab: {_number(ours.median)} {row['unit']}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bar(axes: Axes, y: float, row: dict[str, Any], rival: str) -> None:
    """One bar from the line of equality, its range, and what it says in words."""
    ratio, cost = row["ratios"][rival], row["costs"][rival]
    axes.barh(y, ratio.median - 1, BAR * 0.9, left=1, color=COLOURS[rival])
    axes.plot([ratio.least, ratio.most], [y, y], color=INK, linewidth=1.4, marker="|", markersize=7)
    words = f"{ratio.median:.2f}× ({ratio.least:.2f} to {ratio.most:.2f}); {_number(cost.median)} {row['unit']}"
    axes.annotate(
        words,
        (max(ratio.most, 1), y),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )


def draw_growth(rows: list[dict[str, Any]], panels: dict[str, str]) -> Figure:
    """Four panels, log axes: microseconds of an image, medians with ranges."""
    rows = [row for row in rows if row["us_per_image"]]
    shown = {panel: label for panel, label in panels.items() if any(row["panel"] == panel for row in rows)}
    with house_style():
        figure = Figure(figsize=(9.6, 7.2 if len(shown) > 2 else 4))
        grid = figure.subplots(-(-len(shown) // 2), 2 if len(shown) > 1 else 1, sharey=True, squeeze=False)
        for axes, (panel, label) in zip(grid.flat, shown.items(), strict=False):
            _panel(axes, [row for row in rows if row["panel"] == panel], label)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for line in grid:
            line[0].set_ylabel("µs per image")
        figure.suptitle("Time of an image in training, as one thing grows", x=0.01, ha="left", fontsize=12)
    return figure


def _panel(axes: Axes, rows: list[dict[str, Any]], label: str) -> None:
    """One quantity's growth; a map on the disk has a colour and a shape of its own."""
    kinds = (("in memory", BLUE, "o", False), ("memory map, 5 times the memory limit", ORANGE, "s", True))
    if len(rows) > 1:
        ordered = sorted(rows, key=lambda row: row["x"])
        axes.plot([r["x"] for r in ordered], [r["us_per_image"].median for r in ordered], color=FAINT, linewidth=1)
    for name, colour, marker, is_map in kinds:
        chosen = [row for row in rows if bool(row["file"]) == is_map]
        if chosen:
            spreads = [row["us_per_image"] for row in chosen]
            below, above = [s.median - s.least for s in spreads], [s.most - s.median for s in spreads]
            middles = [s.median for s in spreads]
            axes.errorbar(
                [r["x"] for r in chosen], middles, [below, above], fmt=marker, color=colour, capsize=3, label=name
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"{label} (log scale)")
    ticks = sorted({row["x"] for row in rows})
    axes.set_xticks(ticks, [f"{tick / 1000:,.0f}k" if tick >= 1000 else str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.grid(color=FAINT, alpha=0.18, linewidth=0.6)
    if any(row["file"] for row in rows):
        axes.legend(loc="upper left")
