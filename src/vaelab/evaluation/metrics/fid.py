"""How far generated images are from real ones, each set taken for a normal distribution of features."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import Features, FeatureSets, check_sets
from vaelab.evaluation.metrics import Metric, Quantity

SETS = {
    "reconstruction": "expected images of the posterior means of the images",
    "training": "training images in place of generated ones, if there are as many",
}
"""What is compared with the images besides samples, for a protocol."""


def frechet_distance(a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"]) -> float:
    """|μ_a − μ_b|² + Tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two sets of features, covariances 1/(n−1); 0 or more.

    Heusel et al. 2017 (1706.08500), equation 6; the FID where the features are Inception's, and nowhere else. The trace
    of the root is the sum of the singular values of A Bᵀ, A and B the centred features over √(n−1): no matrix root,
    right for any rank. float64. ValueError for fewer than 2 images or unequal numbers of features.
    """
    a, b = check_sets(a, b, 2)
    difference = a.mean(0) - b.mean(0)
    # The triangular factor of a centred set has its covariance, and features × features numbers at most.
    root_a, root_b = (np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - 1) for x in (a, b))
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = difference @ difference + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return max(float(distance), 0.0)


def distances_from(
    features: FeatureSets, name: str, distance: Callable[[Features, Features], float]
) -> dict[str, float]:
    """Distances of samples (``name``), reconstructions and training images (with a prefix) from the images."""
    others = {"": features.samples, "reconstruction_": features.reconstructions, "training_": features.train}
    return {f"{key}{name}": distance(features.images, other) for key, other in others.items() if other is not None}


def measure(
    evaluation: Evaluation, *, samples: Annotated[int, Ge(2)] = 10_000, sampler: str = "prior"
) -> dict[str, Any] | None:
    """Distance of samples, of reconstructions and of training images from the images; None for fewer than two images.

    Called ``fid`` with Inception's features, else ``fd_KIND`` by the kind of extractor. That of training images is what
    a perfect model would reach. All are too large by an amount that falls as 1/n: compare at equal numbers of images
    and with one extractor. ``sampler``: what codes are drawn from.
    """
    features = evaluation.features(samples, sampler)
    if len(features) < 2 or not features.images.shape[1]:
        return None
    kind = features.extractor.kind
    name = "fid" if kind == "inception" else f"fd_{kind}"
    return {
        **distances_from(features, name, frechet_distance),
        "protocol": {**features.protocol(), **SETS, "covariances": "1/(n − 1), float64"},
    }


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"features"}),
    by_default=frozenset({"evaluate"}),
    quantities=(
        Quantity("fid", "FID", better="lower"),
        Quantity("fd_classifier", "Fréchet distance, features of a classifier", better="lower"),
        Quantity("fd_pca", "Fréchet distance, principal components", better="lower"),
    ),
    order=62,
    synonyms=("frechet", "fd", "frechet_distance", "frechet_inception_distance"),
)
