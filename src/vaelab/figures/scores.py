"""The most unusual and the most usual of a set of images under a model, above their reconstructions."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure

TITLE = "Unusual and usual images"
ORDER = 75
SECTION = "overview"
MOST = 8
"""Images of each kind."""


def ends(elbo: Float[np.ndarray, " n"]) -> list[np.ndarray]:
    """Numbers of the images with the lowest ELBO, lowest first, and of those with the highest, highest first."""
    order = np.argsort(elbo, kind="stable")
    count = min(MOST, len(elbo))
    return [order[:count], order[::-1][:count]]


def arrays_of(
    originals: UInt8[np.ndarray, "2 count height width channel"],
    reconstructions: UInt8[np.ndarray, "2 count height width channel"],
    elbo: Float[np.ndarray, "2 count"],
) -> Arrays:
    """The images at both ends with what the model makes of them."""
    return {"originals": originals, "reconstructions": reconstructions, "elbo": elbo}


def draw(arrays: Arrays) -> Figure:
    """Two rows of originals, each above one of reconstructions, with the ELBO under the originals."""
    pairs = zip(arrays["originals"], arrays["reconstructions"], strict=True)
    rows = np.stack([row for pair in pairs for row in pair])
    words = ["most unusual\nELBO in nats", "reconstructions", "most usual\nELBO in nats", "reconstructions"]
    under = []
    for values in arrays["elbo"]:
        under += [f"{value:.1f}".replace("-", "−") for value in values] + [""] * len(values)
    return sheet_figure([rows], words, under=under, cell=128)


def caption(arrays: Arrays) -> str:
    """What the order is."""
    return "In the order of the ELBO: a low one says that the model has seen nothing like it, or nothing so detailed."
