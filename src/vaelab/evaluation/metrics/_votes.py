"""Shared by the BetaVAE and FactorVAE scores: draws of images that share the value of one factor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import NotMeasurable
from vaelab.evaluation.metrics._factors import describe_factors, draw, varying_factors

BLOCK = 1 << 20
"""Codes gathered at a time: 8 MB."""


@dataclass(frozen=True)
class Votes:
    """Draws of a factor and of images that share its value, and their protocol."""

    factor: Int[np.ndarray, " vote"]
    anchors: Int[np.ndarray, "vote anchor"]
    """Rows of images."""
    partners: Int[np.ndarray, "vote anchor partner"]
    """Rows of images with the anchor's value of the factor."""
    num_factors: int
    protocol: dict[str, Any]


def draw_votes(images: Images, count: int, anchors: int, partners: int, generator: torch.Generator) -> Votes:
    """Draw ``count`` times a factor, ``anchors`` images, and for each of these ``partners`` with the same value.

    All draws are uniform and with replacement, except that values which only one image has are not drawn. In a complete
    grid of factors all other factors are independent. Factors with one value, and those with a different value in each
    image, are left out. Raises NotMeasurable if fewer than two remain.
    """
    assert images.factors is not None
    columns = varying_factors(images.factors)
    shared = np.array([len(np.unique(images.factors[:, k])) < len(images) for k in columns], bool)
    if shared.sum() < 2:
        raise NotMeasurable(f"needs 2 factors with several values shared by images; the images have {shared.sum()}")
    held, names = columns[shared], describe_factors(images, columns)
    factor = draw(len(held), count, generator)
    first, second = np.empty((count, anchors), np.int64), np.empty((count, anchors, partners), np.int64)
    for k, column in enumerate(held):
        drawn = factor == k
        values, size = images.factors[:, column], (int(drawn.sum()), anchors, partners)
        first[drawn], second[drawn] = _draw_of_factor(values, size, generator)
    protocol = {
        "codes": "posterior means",
        "images": len(images),
        **names,
        "factors": [name for name, is_shared in zip(names["factors"], shared, strict=True) if is_shared],
        "factors_without_shared_values": [
            name for name, is_shared in zip(names["factors"], shared, strict=True) if not is_shared
        ],
    }
    return Votes(factor, first, second, len(held), protocol)


def _draw_of_factor(
    values: NDArray[np.integer], shape: tuple[int, int, int], generator: torch.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw anchors and partners ``[votes, anchors, partners]`` that share their value."""
    _, which, sizes = np.unique(values, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(sizes[which] > 1)
    first = shared[draw(len(shared), shape[0] * shape[1], generator)].reshape(shape[:2])
    by_value, starts = np.argsort(which, kind="stable"), np.cumsum(sizes) - sizes
    group = which[first][..., None]
    position = (torch.rand(shape, generator=generator, dtype=torch.float64).numpy() * sizes[group]).astype(np.int64)
    return first, by_value[starts[group] + position]
