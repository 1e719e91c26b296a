"""Kernel distance between features of generated and real images, which assumes no distribution."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import OWN_SAMPLER, Evaluation
from vaelab.evaluation.features import check_sets
from vaelab.evaluation.metrics import AtLeastTwo, Metric, Quantity, Result

BLOCK = 1 << 22
"""Pairs of images at a time: 32 MB."""


def kernel_distance(a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"]) -> float:
    """Return the unbiased squared MMD of two sets of features with the kernel (x·y / features + 1)³; may be below 0.

    Bińkowski et al. 2018 (1801.01401), section 4, on the full sets, which may differ in size. It is the KID only with
    Inception's features. float64, memory for a block of pairs. Raises ValueError for fewer than 2 images or unequal
    numbers of features.
    """
    a, b = check_sets(a, b, 2)
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _kernel_diagonal(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _kernel_diagonal(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    step = max(1, BLOCK // len(b))
    return sum(float(((a[i : i + step] @ b.T / a.shape[1] + 1) ** 3).sum()) for i in range(0, len(a), step))


def _kernel_diagonal(a: NDArray[np.float64]) -> float:
    return float((((a**2).sum(1) / a.shape[1] + 1) ** 3).sum())


def measure(evaluation: Evaluation, *, samples: AtLeastTwo = 10_000, sampler: str = OWN_SAMPLER) -> Result:
    """Kernel distance of samples, reconstructions and training images from the images.

    Called "kid" with Inception's features, else "kd_KIND" by the kind of extractor. That of the training images is what
    a perfect model would reach, about 0. ``sampler``: source of the codes.
    """
    features = evaluation.features(samples, sampler)
    return features.compare(kernel_distance, "kid", "kd", {"estimate": "unbiased, on the full sets (no subsets)"})


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"features"}),
    by_default=frozenset(),
    quantities=(
        Quantity("kid", "KID", better="lower", digits=4),
        Quantity("kd_classifier", "kernel distance, features of a classifier", better="lower", digits=4),
        Quantity("kd_pca", "kernel distance, principal components", better="lower", digits=4),
    ),
    order=64,
    synonyms=("kernel_inception_distance",),
)
