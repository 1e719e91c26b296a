"""Precision and recall of generated images, and their density and coverage."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import PositiveInt

from vaelab.evaluation.evaluation import OWN_SAMPLER, Evaluation
from vaelab.evaluation.features import check_sets
from vaelab.evaluation.metrics import AtLeastTwo, Metric, Quantity, Result
from vaelab.system.progress import progress

BLOCK = 1 << 22
"""Pairs of images at a time: 32 MB."""


def precision_recall(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"], k: int = 3
) -> tuple[float, float]:
    """Return the share of the generated ``b`` inside a ball of the real ``a``, and of ``a`` inside a ball of ``b``.

    Kynkäänniemi et al. 2019 (1904.06991), equations 1 to 3. The radius of an image's ball is the distance to its k-th
    neighbour in its own set, itself not counted; balls are open. float64. Use sets of equal size: the balls of a
    smaller one are larger. Raises ValueError for k or fewer images in either.
    """
    a, b = check_sets(a, b, k + 1)
    in_a, in_b = _count_balls(a, b, k)[0], _count_balls(b, a, k)[0]
    return float((in_a > 0).mean()), float((in_b > 0).mean())


def density_coverage(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"], k: int = 5
) -> tuple[float, float]:
    """Return the mean number of balls of the real ``a`` around a generated ``b`` over k, and the share of balls hit.

    Naeem et al. 2020 (2002.09797), equations 3 and 4, with the balls of ``precision_recall``. Density may exceed 1; for
    two equal sets without duplicates it is 1. Raises ValueError for k or fewer images in either.
    """
    a, b = check_sets(a, b, k + 1)
    balls, covered = _count_balls(a, b, k)
    return float(balls.mean() / k), float(covered.mean())


def _count_balls(
    centres: NDArray[np.float64], points: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the number of balls that contain each point, and whether each ball contains a point."""
    # The distance of a centre to itself is exactly 0, so its k-th neighbour comes after k others.
    radii = np.concatenate([np.partition(block, k, axis=1)[:, k] for block in _distances(centres, centres)])
    balls, covered = [], np.zeros(len(centres), bool)
    for block in _distances(points, centres):
        balls.append((block < radii).sum(1))
        covered |= (block < radii).any(0)
    return np.concatenate(balls), covered


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the Euclidean distances from a block of ``a`` to all of ``b``.

    From the differences themselves: with expanded squares, as in scikit-learn, equal images would not be 0 apart.
    """
    step = max(1, BLOCK // len(b))
    with progress("distances between images", len(a)) as bar:
        for part in torch.split(torch.from_numpy(a), step):
            yield torch.cdist(part, torch.from_numpy(b), compute_mode="donot_use_mm_for_euclid_dist").numpy()
            bar.advance(len(part))


def measure(
    evaluation: Evaluation,
    *,
    samples: AtLeastTwo = 10_000,
    sampler: str = OWN_SAMPLER,
    k: PositiveInt = 3,
    k_density: PositiveInt = 5,
) -> Result:
    """Precision and recall (``k``), density and coverage (``k_density``) of as many samples as there are images.

    ``sampler``: source of the codes.
    """
    features = evaluation.features(samples, sampler, least=max(k, k_density) + 1)
    precision, recall = precision_recall(features.images, features.samples, k)
    density, coverage = density_coverage(features.images, features.samples, k_density)
    return {
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "protocol": {**features.protocol, "k": k, "k_density": k_density, "balls": "open: distance < radius"},
    }


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"features"}),
    by_default=frozenset(),
    quantities=(
        Quantity("precision", "precision of samples", better="higher", digits=3),
        Quantity("recall", "recall of samples", better="higher", digits=3),
        Quantity("density", "density of samples", better="higher", digits=3),
        Quantity("coverage", "coverage by samples", better="higher", digits=3),
    ),
    order=66,
    synonyms=("prdc", "density_coverage", "precision", "recall", "pr"),
)
