"""How many latents say something about the images."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models.codes import ACTIVE_KL, as_finite

ACTIVE_VARIANCE = 0.01
"""Of a latent's posterior means (Burda et al. 2016, 1509.00519, section 5.2)."""


def active_units(
    means: Float[np.ndarray, "n latent"], threshold: float = ACTIVE_VARIANCE
) -> tuple[int, Float[np.ndarray, " latent"]]:
    """The number of latents j with Var_x[μ_j(x)] > ``threshold``, and these variances (1/N, float64).

    Burda et al. 2016 (1509.00519), section 5.2: A_u = Cov_x(E_{u~q(u|x)}[u]) > 10⁻². ValueError for means that are
    not finite.
    """
    variances: NDArray[np.float64] = as_finite(means).var(0)
    return int((variances > threshold).sum()), variances


def measure(
    evaluation: Evaluation,
    *,
    variance: Annotated[float, Ge(0)] = ACTIVE_VARIANCE,
    kl: Annotated[float, Ge(0)] = ACTIVE_KL,
) -> dict[str, Any]:
    """Latents whose posterior mean varies by more than ``variance``, and latents whose mean KL exceeds ``kl`` nats."""
    codes = evaluation.codes
    count, variances = active_units(codes.mean, variance)
    return {
        "active_units": count,
        "active_units_by_kl": int((codes.latent_kl > kl).sum()),
        "variance_of_means": [float(value) for value in variances],
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
    quantities=(Quantity("active_units", "active units", "latents", digits=0),),
    order=30,
    synonyms=("au",),
)
