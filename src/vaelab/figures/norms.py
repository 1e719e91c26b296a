"""Norms of gradient and weights during training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vaelab.figures import BLUE, ORANGE, Arrays, house_style
from vaelab.models.terms import Term

TITLE = "Gradient and weights"
ORDER = 70
SECTION = "training"


def collect(
    history: dict[str, NDArray[np.float64]], validation: dict[str, NDArray[np.float64]], terms: Sequence[Term]
) -> Arrays | None:
    """Return both norms at every validation, None for fewer than two."""
    if len(validation.get("gradient_norm", ())) < 2:
        return None
    steps_per_epoch = max(1.0, float((history["epoch"] == history["epoch"][0]).sum()))
    return {
        "epoch": validation["step"] / steps_per_epoch,
        "gradient": validation["gradient_norm"],
        "weight": validation["weight_norm"],
    }


def draw(arrays: Arrays) -> Figure:
    """Draw two panels over the same epochs."""
    with house_style():
        figure = Figure(figsize=(9, 3.4))
        panels = figure.subplots(1, 2)
        rows = (("gradient", "gradient of the last batch", ORANGE, "s"), ("weight", "all weights", BLUE, "o"))
        for axes, (name, title, colour, mark) in zip(panels, rows, strict=True):
            axes.plot(arrays["epoch"], arrays[name], color=colour, linewidth=1.5, marker=mark, markersize=3.5)
            axes.set_title(f"Norm, {title}")
            axes.set_xlabel("epoch")
            axes.set_ylim(0, 1.1 * max(float(arrays[name].max()), 1e-12))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def caption(arrays: Arrays) -> str:
    """Explain how to read the norms."""
    return (
        "Euclidean norms at each validation. A sudden rise of the gradient precedes divergence. Weights that keep "
        "growing make the outputs more and more certain."
    )
