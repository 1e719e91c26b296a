"""Rate and distortion of a sweep, with confidence intervals over seeds."""

import itertools
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from vaelab.figures import (
    BLUE,
    CLASS_COLOURS,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    Arrays,
    clean_text,
    house_style,
    missing_letters,
)

TITLE = "Rate and distortion"
ORDER = 91
SECTION = "comparison"
COLOURS = (BLUE, ORANGE, GREEN, *CLASS_COLOURS)
CONFIDENCE = 0.95
CORNERS = 72
"""Corners of the polygon that approximates an ellipse."""

Points = Float[np.ndarray, "_ 2"]


def draw(arrays: Arrays) -> Figure:
    """Draw a line through the means of the settings, labelled with their values, and its confidence band."""
    with house_style(), missing_letters():  # names are measured while they are placed
        figure = Figure(figsize=(8.4, 6.2))
        axes = figure.subplots()
        has_band = False
        for series, colour in zip(arrays["series"], _colours(len(arrays["series"])), strict=True):
            has_band |= _series(axes, series, colour)
        axes.set_xlabel("rate: KL, nats per image")
        axes.set_ylabel("distortion: reconstruction, nats per image")
        axes.set_title(f"Rate and distortion on held-out images, by {clean_text(arrays['swept'])}")
        axes.margins(0.09)
        _stay_positive(axes, arrays)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.grid(color=FAINT, alpha=0.18, linewidth=0.6)
        _legend(axes, arrays, has_band)
        _name_points(axes, arrays)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the marks and the band."""
    counts = sorted({len(point["rate"]) for series in arrays["series"] for point in series["points"]})
    what = "KL and reconstruction of held-out images, nats per image"
    named = f"named by {arrays['swept']} where there is room"
    if counts[-1] < 2:
        return f"{what}. Dots are runs, {named}. One seed gives no confidence band: differences may be chance."
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"{what}. Rings are runs, dots are means of {seeds} seeds, {named}. The half-axes of an ellipse are the 95 % "
        "t-intervals of the mean, for rate and distortion separately. The band joins neighbouring ellipses."
    )


def interval(values: Float[np.ndarray, " n"]) -> float:
    """Return half the width of the 95 % t-interval of the mean, t(0.975, n − 1)·s/√n; nan for fewer than two values."""
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return float("nan")
    return float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2) * values.std(ddof=1) / np.sqrt(count))


def _stay_positive(axes: Axes, arrays: Arrays) -> None:
    """Let no axis begin below 0 if all values are positive; the margin and an interval might."""
    axes.autoscale_view()
    points = [point for series in arrays["series"] for point in series["points"]]
    for name, (low, _), limit in (
        ("rate", axes.get_xlim(), axes.set_xlim),
        ("distortion", axes.get_ylim(), axes.set_ylim),
    ):
        if low < 0 <= min(float(np.min(point[name])) for point in points):
            limit(0.0, None)


def _series(axes: Axes, series: dict[str, Any], colour: str) -> bool:
    """Draw one line; return whether it has a band."""
    runs = [np.stack([point["rate"], point["distortion"]], axis=1).astype(float) for point in series["points"]]
    means = np.stack([points.mean(0) for points in runs])
    ellipses = [_ellipse(points) for points in runs]
    parts = [ellipse for ellipse in ellipses if ellipse is not None]
    for one, other in itertools.pairwise(ellipses):
        if one is not None and other is not None:
            parts.append(np.concatenate([one, other]))
    if parts:
        hulls = [hull(part) for part in parts]
        union = Path.make_compound_path(*(Path(np.vstack([corners, corners[:1]]), closed=True) for corners in hulls))
        axes.add_patch(PathPatch(union, facecolor=colour, alpha=0.16, linewidth=0, zorder=1))
        axes.update_datalim(np.concatenate(parts))
    for ellipse in ellipses:
        if ellipse is not None:
            axes.plot(*np.vstack([ellipse, ellipse[:1]]).T, color=colour, linewidth=0.7, alpha=0.6, zorder=2)
    axes.plot(*means.T, color=colour, linewidth=1.8, marker="o", markersize=6, zorder=3, clip_on=False)
    for points in runs:
        if len(points) > 1:
            axes.plot(*points.T, linestyle="none", marker="o", markersize=5, markerfacecolor="white",
                      markeredgecolor=colour, markeredgewidth=1, alpha=0.9, zorder=2.5, clip_on=False)  # fmt: skip
    return bool(parts)


def _name_points(axes: Axes, arrays: Arrays) -> None:
    """Label each mean with its value, the ends of a line first; labels that would overlap are left out."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    taken: list[Bbox] = []
    single = len(arrays["series"]) == 1
    for series, colour in zip(arrays["series"], _colours(len(arrays["series"])), strict=True):
        points = series["points"]
        for point in [points[0], points[-1], *points[1:-1]][: len(points)]:
            name = axes.annotate(
                clean_text(point["label"]), (float(np.mean(point["rate"])), float(np.mean(point["distortion"]))),
                xytext=(7, 6), textcoords="offset points", fontsize=11, fontweight="bold", zorder=5,
                color=INK if single else colour, path_effects=[effects.withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
            box = name.get_window_extent()
            if any(box.overlaps(other) for other in taken):
                name.remove()
            else:
                taken.append(box)


def _ellipse(points: Points) -> Points | None:
    """Return the outline of the intervals around the mean, None for a single point."""
    half = np.array([interval(points[:, 0]), interval(points[:, 1])])
    if np.isnan(half).any():
        return None
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    outline: NDArray[np.float64] = points.mean(0) + half * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return outline


def hull(points: Points) -> Points:
    """Return the corners of the convex hull, counter-clockwise; all points if they lie on a line."""
    from scipy.spatial import ConvexHull, QhullError

    distinct = np.unique(points, axis=0)
    try:
        return distinct[ConvexHull(distinct).vertices] if len(distinct) > 2 else distinct
    except QhullError:  # the points lie on a line
        return distinct[[0, -1]]


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _legend(axes: Axes, arrays: Arrays, has_band: bool) -> None:
    """Draw the legend of marks and lines."""
    series, single = arrays["series"], len(arrays["series"]) == 1
    colour = BLUE if single else FAINT
    seeds = max(len(point["rate"]) for one in series for point in one["points"])
    handles: list[Any] = []
    if not single:
        handles = [
            Line2D([], [], color=colour, linewidth=1.8, marker="o", markersize=6, label=clean_text(one["label"]))
            for one, colour in zip(series, _colours(len(series)), strict=True)
        ]
    if seeds > 1:
        handles += [
            Line2D([], [], linestyle="none", marker="o", markersize=5, markerfacecolor="white",
                   markeredgecolor=colour, label="one seed"),
            Line2D([], [], color=colour, linewidth=1.8, marker="o", markersize=6, label="mean of the seeds"),
        ]  # fmt: skip
    if has_band:
        handles.append(Patch(facecolor=colour, alpha=0.25, label="95 % t-interval of the mean, each way"))
    if handles:
        labels = [str(handle.get_label()) for handle in handles]
        legend = axes.legend(handles, ["·"] * len(labels), loc="upper right", fontsize=10)
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)  # Matplotlib leaves labels that begin with "_" out of a legend
