"""Draws of images that share the value of one factor."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.evaluation.metrics._factors import describe_factors, draw, varying

BLOCK = 1 << 20
"""Codes gathered at a time: 8 MB."""

Drawn = tuple[Int[np.ndarray, " count"], Int[np.ndarray, "count anchors"], Int[np.ndarray, "count anchors partners"]]


def factors_to_hold(images: Images) -> tuple[Int[np.ndarray, "n kept"], dict[str, Any]] | None:
    """The factors that votes may hold, and a protocol that names them and the others; None for fewer than two.

    Factors with one observed value and those with another value in every image are left out.
    """
    assert images.factors is not None
    factors, kept = varying(images.factors)
    names = describe_factors(images, kept)
    held = np.array([is_shared(column) for column in factors.T], bool)
    if held.sum() < 2:
        return None
    return factors[:, held], {
        "codes": "posterior means",
        "images": len(images),
        **names,
        "factors": [name for name, is_held in zip(names["factors"], held, strict=True) if is_held],
        "factors_left_out_for_sharing_no_value": [
            name for name, is_held in zip(names["factors"], held, strict=True) if not is_held
        ],
    }


def is_shared(values: Int[np.ndarray, " n"]) -> bool:
    """Whether there is more than one value, and one that two images have."""
    return 1 < len(np.unique(values)) < len(values)


def draw_sharing(
    factors: Int[np.ndarray, "n factor"], count: int, anchors: int, partners: int, generator: torch.Generator
) -> Drawn:
    """``count`` times a factor, ``anchors`` images, and for each of them ``partners`` with its value of the factor.

    All with replacement and as likely as one another, but that values which one image alone has are not drawn. In a
    complete grid of factors all but the one factor are independent. ValueError for fewer than two factors, and for one
    of which nothing can be told.
    """
    if factors.shape[1] < 2 or not all(is_shared(column) for column in factors.T):
        raise ValueError(
            f"two factors or more are compared, each with several values and one that two images share; "
            f"got {[len(np.unique(column)) for column in factors.T]} values in {len(factors)} images"
        )
    factor = draw(factors.shape[1], count, generator)
    first = np.empty((count, anchors), np.int64)
    second = np.empty((count, anchors, partners), np.int64)
    for k, column in enumerate(factors.T):
        drawn = factor == k
        first[drawn], second[drawn] = _draw_of_factor(column, (int(drawn.sum()), anchors, partners), generator)
    return factor, first, second


def _draw_of_factor(
    values: NDArray[np.integer], shape: tuple[int, int, int], generator: torch.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, which, sizes = np.unique(values, return_inverse=True, return_counts=True)
    (shared,) = np.nonzero(sizes[which] > 1)
    first = shared[draw(len(shared), shape[0] * shape[1], generator)].reshape(shape[:2])
    by_value, starts = np.argsort(which, kind="stable"), np.cumsum(sizes) - sizes
    group = which[first][..., None]
    position = (torch.rand(shape, generator=generator, dtype=torch.float64).numpy() * sizes[group]).astype(np.int64)
    return first, by_value[starts[group] + position]
