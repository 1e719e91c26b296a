"""How many generated images look real, and how many real ones could have been generated."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import check_sets
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.system.progress import progress

BLOCK = 1 << 22
"""Pairs of images at a time: 32 MB."""


def precision_recall(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"], k: int = 3
) -> tuple[float, float]:
    """Share of the generated ``b`` within a ball of the real ``a``, and of ``a`` within a ball of ``b``.

    Kynkäänniemi et al. 2019 (1904.06991), equations 1 to 3. The ball of an image reaches to its k-th neighbour in its
    own set, itself not counted, and that distance is outside (d < radius). float64. Give sets of one size: the balls of
    a smaller one are larger. ValueError for k or fewer images of either.
    """
    a, b = check_sets(a, b, k + 1)
    with progress("precision and recall", 2 * (len(a) + len(b))) as bar:
        in_a, _ = _within(a, _radii(a, k, bar), b, bar)
        in_b, _ = _within(b, _radii(b, k, bar), a, bar)
    return float((in_a > 0).mean()), float((in_b > 0).mean())


def density_coverage(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"], k: int = 5
) -> tuple[float, float]:
    """In how many balls of the real ``a`` a generated ``b`` lies, over k; and the share of balls with a ``b`` in them.

    Naeem et al. 2020 (2002.09797), equations 3 and 4, with the balls of ``precision_recall``. Density may exceed 1; of
    two equal sets without duplicates it is 1. ValueError for k or fewer images of either.
    """
    a, b = check_sets(a, b, k + 1)
    with progress("density and coverage", len(a) + len(b)) as bar:
        balls, covered = _within(a, _radii(a, k, bar), b, bar)
    return float(balls.mean() / k), float(covered.mean())


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the differences themselves: squares multiplied out would not find that equal images are 0 apart."""
    exact = "donot_use_mm_for_euclid_dist"
    found: NDArray[np.float64] = torch.cdist(torch.from_numpy(a), torch.from_numpy(b), compute_mode=exact).numpy()
    return found


def _radii(a: NDArray[np.float64], k: int, bar: Any) -> NDArray[np.float64]:
    """Distance of each image to its k-th neighbour, itself not counted."""
    radii, step = np.empty(len(a)), max(1, BLOCK // len(a))
    for start in range(0, len(a), step):
        distances = _distances(a[start : start + step], a)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        radii[start : start + step] = np.partition(distances, k - 1, axis=1)[:, k - 1]
        bar.advance(len(rows))
    return radii


def _within(
    centres: NDArray[np.float64], radii: NDArray[np.float64], points: NDArray[np.float64], bar: Any
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """In how many balls each point lies, and whether each ball holds a point."""
    balls, covered, step = np.empty(len(points), np.int64), np.zeros(len(centres), bool), max(1, BLOCK // len(centres))
    for start in range(0, len(points), step):
        inside = _distances(points[start : start + step], centres) < radii
        balls[start : start + step] = inside.sum(1)
        covered |= inside.any(0)
        bar.advance(len(inside))
    return balls, covered


def measure(
    evaluation: Evaluation,
    *,
    samples: Annotated[int, Ge(2)] = 10_000,
    sampler: str = "prior",
    k: Annotated[int, Ge(1)] = 3,
    k_density: Annotated[int, Ge(1)] = 5,
) -> dict[str, Any] | None:
    """Precision and recall (``k``), density and coverage (``k_density``) of as many samples as there are images.

    None if there are too few images for a k-th neighbour. ``sampler``: what codes are drawn from.
    """
    features = evaluation.features(samples, sampler)
    if len(features) <= max(k, k_density) or not features.images.shape[1]:
        return None
    precision, recall = precision_recall(features.images, features.samples, k)
    density, coverage = density_coverage(features.images, features.samples, k_density)
    return {
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "protocol": {**features.protocol(), "k": k, "k_density": k_density, "balls": "open: distance < radius"},
    }


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"features"}),
    by_default=frozenset(),
    quantities=(
        Quantity("precision", "precision of samples", "share", "higher", digits=3),
        Quantity("recall", "recall of samples", "share", "higher", digits=3),
        Quantity("density", "density of samples", better="higher", digits=3),
        Quantity("coverage", "coverage by samples", "share", "higher", digits=3),
    ),
    order=66,
    synonyms=("prdc", "density_coverage", "precision", "recall", "pr"),
)
