"""Images with the lowest and the highest ELBO, above their reconstructions."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure

TITLE = "Unusual and usual images"
ORDER = 75
SECTION = "overview"
MOST = 8
"""Largest number of images at each end."""


def ends(elbo: Float[np.ndarray, " n"]) -> list[np.ndarray]:
    """Return the rows of the images with the lowest ELBO, lowest first, and with the highest, highest first."""
    order = np.argsort(elbo, kind="stable")
    count = min(MOST, len(elbo))
    return [order[:count], order[::-1][:count]]


def arrays_of(
    originals: UInt8[np.ndarray, "2 count height width channel"],
    reconstructions: UInt8[np.ndarray, "2 count height width channel"],
    elbo: Float[np.ndarray, "2 count"],
) -> Arrays:
    """Return the arrays of the figure."""
    return {"originals": originals, "reconstructions": reconstructions, "elbo": elbo}


def draw(arrays: Arrays) -> Figure:
    """Draw two rows of originals above their reconstructions, with the ELBO below the originals."""
    pairs = zip(arrays["originals"], arrays["reconstructions"], strict=True)
    rows = np.stack([row for pair in pairs for row in pair])
    words = ["most unusual\nELBO in nats", "reconstructions", "most usual\nELBO in nats", "reconstructions"]
    under = []
    for values in arrays["elbo"]:
        under += [f"{value:.1f}".replace("-", "−") for value in values] + [""] * len(values)
    return sheet_figure([rows], words, under=under, cell=128)


def caption(arrays: Arrays) -> str:
    """Explain the order."""
    return "Ordered by ELBO. A low ELBO means that the training images are unlike this image, or less detailed."
