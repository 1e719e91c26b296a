"""How far generated images are from real ones, each set taken for a normal distribution of features."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float

from vaelab.data.images import Images
from vaelab.evaluation.features import Extractor, check_sets, look
from vaelab.models.vae import VAE


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


def measure(
    model: VAE,
    images: Images,
    generator: torch.Generator,
    *,
    train: Images | None = None,
    samples: Annotated[int, Ge(2)] = 10_000,
    extractor: Extractor | None = None,
) -> dict[str, Any] | None:
    """Distance of generated images, of reconstructions and of training images from the images; None for one image.

    Called ``fid`` with Inception's features, else ``frechet_distance``. That of training images is what a perfect model
    would reach. All are too large by an amount that falls as 1/n: compare at equal numbers of images and with one
    extractor.
    """
    seen = look(model, images, generator, train=train, samples=samples, extractor=extractor)
    if seen is None:
        return None
    name = "fid" if seen.is_inception else "frechet_distance"
    distances = {f"{prefix}{name}": frechet_distance(seen.images, other) for prefix, other in seen.others.items()}
    return {**distances, "protocol": {**seen.protocol, "covariances": "1/(n − 1), float64"}}
