"""Number of latents that carry information about the images."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.codes import ACTIVE_KL, as_finite

ACTIVE_VARIANCE = 0.01
"""Variance of a latent's posterior means above which it is active (Burda et al. 2016, 1509.00519, section 5.2)."""


def active_units(
    means: Float[np.ndarray, "n latent"], threshold: float = ACTIVE_VARIANCE
) -> tuple[int, Float[np.ndarray, " latent"]]:
    """Return the number of latents with Var_x[μ_j(x)] > ``threshold``, and these variances (1/N, float64).

    Burda et al. 2016 (1509.00519), section 5.2: A_u = Cov_x(E_{u~q(u|x)}[u]) > 10⁻². Raises ValueError for means that
    are not finite.
    """
    variances: NDArray[np.float64] = as_finite(means).var(0)
    return int((variances > threshold).sum()), variances


def measure(
    evaluation: Evaluation, *, variance: NonNegativeFloat = ACTIVE_VARIANCE, kl: NonNegativeFloat = ACTIVE_KL
) -> Result:
    """Latents whose posterior mean varies by more than ``variance``, and latents whose mean KL exceeds ``kl`` nats."""
    codes = evaluation.codes
    count, variances = active_units(codes.mean, variance)
    return {
        "active_units": count,
        "active_units_by_kl": int((codes.latent_kl > kl).sum()),
        "variance_of_means": variances.tolist(),
        "protocol": {
            "images": len(evaluation.images),
            "latents": len(variances),
            "active_units": f"variance of posterior means (1/N) > {variance:g}",
            "active_units_by_kl": f"mean KL of the latent > {kl:g} nats",
        },
    }


METRIC = Metric(
    measure,
    question="latent space",
    quantities=(Quantity("active_units", "active units", "latents", digits=0, decides=True),),
    order=30,
    synonyms=("au",),
)
