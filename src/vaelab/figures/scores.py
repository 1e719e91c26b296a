"""Images with the lowest and the highest ELBO, above their reconstructions; all of a few."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure

TITLE = "Unusual and usual images"
ORDER = 75
SECTION = "overview"
MOST = 8
"""Largest number of images in a group."""


def ends(elbo: Float[np.ndarray, " n"]) -> list[np.ndarray]:
    """Return the rows of the images to show, lowest ELBO first in the first group; no image is in two groups.

    Up to ``MOST`` images form one group; of more, there are two: the lowest ELBO, and the highest, highest first.
    """
    order = np.argsort(elbo, kind="stable")
    if len(elbo) <= MOST:
        return [order]
    count = min(MOST, len(elbo) // 2)
    return [order[:count], order[::-1][:count]]


def arrays_of(
    originals: UInt8[np.ndarray, "groups count height width channel"],
    reconstructions: UInt8[np.ndarray, "groups count height width channel"],
    elbo: Float[np.ndarray, "groups count"],
) -> Arrays:
    """Return the arrays of the figure."""
    return {"originals": originals, "reconstructions": reconstructions, "elbo": elbo}


def draw(arrays: Arrays) -> Figure:
    """Draw each group of originals above its reconstructions, with the ELBO below the originals."""
    pairs = zip(arrays["originals"], arrays["reconstructions"], strict=True)
    rows = np.stack([row for pair in pairs for row in pair])
    words = [part for name in _group_names(arrays) for part in (f"{name}\nELBO in nats", "reconstruction")]
    under = []
    for values in arrays["elbo"]:
        under += [f"{value:.1f}".replace("-", "−") for value in values] + [""] * len(values)
    return sheet_figure([rows], words, under=under, cell=128)


def _group_names(arrays: Arrays) -> list[str]:
    if len(arrays["elbo"]) == 2:
        return ["most unusual", "least unusual"]
    return ["image"] if arrays["elbo"].shape[1] == 1 else ["images, most\nunusual first"]


def caption(arrays: Arrays) -> str:
    """Explain the order, if there is one."""
    meaning = "A low ELBO means that the image differs from the training images, or has more detail."
    if arrays["elbo"].size == 1:
        return f"{meaning} A single score is hard to interpret: compare it with others, such as held-out images."
    return f"Ordered by ELBO. {meaning}"
