"""Figures of speed.py and growth.py."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from vaelab.figures import BLUE, FAINT, INK, ORANGE, house_style, render

COLOURS = {"plain": BLUE, "pythae": ORANGE}
LABELS = {"plain": "the usual PyTorch script", "pythae": "Pythae"}
BAR_HEIGHT = 0.36
TEXT_WIDTH = 0.36
"""Fraction of the width that is kept free for the text beside the longest bar."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.write_bytes(render(figure, {}))


def draw_ratios(rows: list[dict[str, Any]], subtitle: str) -> Figure:
    """Bars of the median ratio of each rival's cost to vaelab's, with whiskers for the range over repetitions.

    A row has ``title``, ``unit``, ``costs`` {rival: Spread | None} and ``ratios`` {rival: Spread | None}.
    """
    rows = [row for row in rows if any(row["ratios"].values())]
    with house_style():
        figure = Figure(figsize=(10.5, 1.9 + 0.72 * len(rows)))
        axes = figure.subplots()
        highest = max(ratio.highest for row in rows for ratio in row["ratios"].values() if ratio)
        lowest = min(ratio.lowest for row in rows for ratio in row["ratios"].values() if ratio)
        for y, row in enumerate(rows):
            present = [rival for rival in COLOURS if row["ratios"].get(rival)]
            for i, rival in enumerate(present):
                _draw_bar(axes, y + (i - (len(present) - 1) / 2) * BAR_HEIGHT, row, rival)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xscale("log")
        left = min(0.5, 0.8 * lowest)
        axes.set_xlim(left, left * (highest / left) ** (1 / (1 - TEXT_WIDTH)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(rows)), [f"{row['title']}\n{_describe_vaelab(row)}" for row in rows], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("cost of the rival ÷ cost of vaelab (log scale); right of the line, vaelab needs less")
        figure.suptitle(f"Cost of the same workload, vaelab = 1\n{subtitle}", x=0.01, ha="left", fontsize=11)
        handles = [Line2D([], [], color=COLOURS[key], linewidth=9, label=LABELS[key]) for key in _find_rivals(rows)]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _find_rivals(rows: list[dict[str, Any]]) -> list[str]:
    return [rival for rival in COLOURS if any(row["ratios"].get(rival) for row in rows)]


def _describe_vaelab(row: dict[str, Any]) -> str:
    return f"vaelab: {_format(row['costs']['vaelab'].median)} {row['unit']}"


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _draw_bar(axes: Axes, y: float, row: dict[str, Any], rival: str) -> None:
    """Draw a bar from the line of equality, its range and its text."""
    ratio, cost = row["ratios"][rival], row["costs"][rival]
    axes.barh(y, ratio.median - 1, BAR_HEIGHT * 0.9, left=1, color=COLOURS[rival])
    axes.plot([ratio.lowest, ratio.highest], [y, y], color=INK, linewidth=1.4, marker="|", markersize=7)
    text = f"{ratio.median:.2f}× ({ratio.lowest:.2f} to {ratio.highest:.2f}); {_format(cost.median)} {row['unit']}"
    axes.annotate(
        text,
        (max(ratio.highest, 1), y),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )


def draw_growth(rows: list[dict[str, Any]], panels: dict[str, str]) -> Figure:
    """Panels of the microseconds per image against each quantity, medians with ranges, log axes."""
    rows = [row for row in rows if row["us_per_image"]]
    shown = {panel: label for panel, label in panels.items() if any(row["panel"] == panel for row in rows)}
    with house_style():
        figure = Figure(figsize=(9.6, 7.2 if len(shown) > 2 else 4))
        grid = figure.subplots(-(-len(shown) // 2), 2 if len(shown) > 1 else 1, sharey=True, squeeze=False)
        for axes, (panel, label) in zip(grid.flat, shown.items(), strict=False):
            _draw_panel(axes, [row for row in rows if row["panel"] == panel], label)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for line in grid:
            line[0].set_ylabel("µs per image")
        figure.suptitle("Training time per image as one quantity grows", x=0.01, ha="left", fontsize=12)
    return figure


def _draw_panel(axes: Axes, rows: list[dict[str, Any]], xlabel: str) -> None:
    """Draw one quantity; sets in a memory map have a colour and a marker of their own."""
    kinds = (("in memory", BLUE, "o", False), ("memory map, 5 times the memory limit", ORANGE, "s", True))
    if len(rows) > 1:
        ordered = sorted(rows, key=lambda row: row["x"])
        axes.plot([r["x"] for r in ordered], [r["us_per_image"].median for r in ordered], color=FAINT, linewidth=1)
    for label, colour, marker, is_mapped in kinds:
        chosen = [row for row in rows if bool(row["file"]) == is_mapped]
        if chosen:
            spreads = [row["us_per_image"] for row in chosen]
            below, above = [s.median - s.lowest for s in spreads], [s.highest - s.median for s in spreads]
            middles = [s.median for s in spreads]
            axes.errorbar(
                [r["x"] for r in chosen], middles, [below, above], fmt=marker, color=colour, capsize=3, label=label
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"{xlabel} (log scale)")
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
