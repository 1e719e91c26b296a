"""How many latents say something about the images."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.models.codes import Codes, as_finite, encode_images
from vaelab.models.vae import VAE

SYNONYMS = ("au",)
"""Other words for it that ``--metrics`` takes."""


def active_units(
    means: Float[np.ndarray, "n latent"], threshold: float = 0.01
) -> tuple[int, Float[np.ndarray, " latent"]]:
    """The number of latents j with Var_x[μ_j(x)] > ``threshold``, and these variances (1/N, float64).

    Burda et al. 2016 (1509.00519), section 5.2: A_u = Cov_x(E_{u~q(u|x)}[u]) > 10⁻². ValueError for means that are
    not finite.
    """
    variances: NDArray[np.float64] = as_finite(means).var(0)
    return int((variances > threshold).sum()), variances


def measure_codes(
    codes: Codes,
    images: Images,
    generator: torch.Generator,
    *,
    variance: Annotated[float, Ge(0)] = 0.01,
    kl: Annotated[float, Ge(0)] = 0.01,
) -> dict[str, Any]:
    """Latents whose posterior mean varies by more than ``variance``, and latents whose mean KL exceeds ``kl`` nats."""
    count, variances = active_units(codes.mean, variance)
    return {
        "active_units": count,
        "active_units_by_kl": int((codes.kl > kl).sum()),
        "variance_of_means": [float(value) for value in variances],
        "protocol": {
            "images": len(images),
            "latents": len(variances),
            "active_units": f"variance of posterior means (1/N) > {variance:g}",
            "active_units_by_kl": f"mean KL of the latent > {kl:g} nats",
        },
    }


def measure(
    model: VAE,
    images: Images,
    generator: torch.Generator,
    *,
    variance: Annotated[float, Ge(0)] = 0.01,
    kl: Annotated[float, Ge(0)] = 0.01,
) -> dict[str, Any]:
    """``measure_codes`` of freshly encoded images."""
    return measure_codes(encode_images(model, images), images, generator, variance=variance, kl=kl)
