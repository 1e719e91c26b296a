"""ELBO of held-out images during training, with the likelihood's constant."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vaelab.figures import BLUE, Arrays, house_style
from vaelab.models.terms import Term

TITLE = "ELBO"
ORDER = 60
SECTION = "training"


def collect(
    history: dict[str, NDArray[np.float64]], validation: dict[str, NDArray[np.float64]], terms: Sequence[Term]
) -> Arrays | None:
    """Return epoch and ELBO of every validation, None for fewer than two."""
    if len(validation.get("step", ())) < 2:
        return None
    return {"epoch": validation["step"] / max(1.0, _steps_per_epoch(history)), "elbo": validation["elbo"]}


def _steps_per_epoch(history: dict[str, NDArray[np.float64]]) -> float:
    return float((history["epoch"] == history["epoch"][0]).sum())


def draw(arrays: Arrays) -> Figure:
    """Draw the ELBO over epochs."""
    with house_style():
        figure = Figure(figsize=(9, 3.6))
        axes = figure.subplots()
        axes.plot(arrays["epoch"], arrays["elbo"], color=BLUE, linewidth=1.6, marker="o", markersize=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        last = f"{arrays['elbo'][-1]:.2f}".replace("-", "−")
        axes.set_title(f"Normalised ELBO of held-out images (higher is better), {last} at the end")
        axes.margins(y=0.15)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the difference from the loss."""
    return (
        "A lower bound on ln p(x), including the constant that the loss omits, from one sample per image. It may be "
        "positive for a likelihood that is a density."
    )
