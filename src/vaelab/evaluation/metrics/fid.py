"""Fréchet distance between features of generated and real images."""

import numpy as np
from jaxtyping import Float

from vaelab.evaluation.evaluation import OWN_SAMPLER, Evaluation
from vaelab.evaluation.features import check_sets
from vaelab.evaluation.metrics import AtLeastTwo, Metric, Quantity, Result


def frechet_distance(a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"]) -> float:
    """Return |μ_a − μ_b|² + Tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two sets of features, covariances 1/(n − 1); 0 or more.

    Heusel et al. 2017 (1706.08500), equation 6. It is the FID only with Inception's features. The trace of the root is
    the sum of the singular values of A Bᵀ with the centred features A and B over √(n − 1). It takes no matrix root and
    holds for any rank. float64. Raises ValueError for fewer than 2 images or unequal numbers of features.
    """
    a, b = check_sets(a, b, 2)
    difference = a.mean(0) - b.mean(0)
    # The triangular factor of a centred set has the same covariance and at most features × features numbers.
    root_a, root_b = (np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - 1) for x in (a, b))
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = difference @ difference + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return max(float(distance), 0.0)


def measure(evaluation: Evaluation, *, samples: AtLeastTwo = 10_000, sampler: str = OWN_SAMPLER) -> Result:
    """Fréchet distance of samples, reconstructions and training images from the images.

    Called "fid" with Inception's features, else "fd_KIND" by the kind of extractor. That of the training images is what
    a perfect model would reach. All are too large by an amount that falls as 1/n: compare at equal numbers of images
    and with the same extractor. ``sampler``: source of the codes.
    """
    features = evaluation.features(samples, sampler)
    return features.compare(frechet_distance, "fid", "fd", {"covariances": "1/(n − 1), float64"})


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"features"}),
    by_default=frozenset({"evaluate"}),
    quantities=(
        Quantity("fid", "FID", better="lower", decides=True),
        Quantity("fd_classifier", "Fréchet distance, features of a classifier", better="lower"),
        Quantity("fd_pca", "Fréchet distance, principal components", better="lower"),
    ),
    order=62,
    synonyms=("frechet", "fd", "frechet_distance", "frechet_inception_distance"),
)
