"""How few latents each single image uses."""

import math
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models.codes import as_finite


def hoyer(vectors: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
    """(√d − ‖y‖₁/‖y‖₂) / (√d − 1) of each vector: 0 where all d entries are of one size, 1 where all but one are 0.

    Hoyer 2004 (cs/0408058). float64; nan for a zero vector, and for d = 1, where neither means anything.
    """
    y = np.abs(vectors.astype(np.float64))
    peak = y.max(1, keepdims=True)
    y = y / np.where(peak > 0, peak, np.nan)  # the measure does not depend on scale, but squares may underflow
    root = math.sqrt(y.shape[1])
    values: NDArray[np.float64] = np.full(len(y), np.nan)
    if y.shape[1] > 1:
        values = (root - y.sum(1) / np.sqrt((y**2).sum(1))) / (root - 1)
    return values


def normalise(means: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, "n latent"]:
    """Codes divided by each latent's standard deviation (1/N) over the set, not centred; 0 where a latent is constant.

    Constant: a standard deviation below 10⁻⁶ of the latent's largest magnitude, which rounding of float32 alone makes.
    ValueError for codes that are not finite.
    """
    codes = as_finite(means)
    deviation = codes.std(0)
    varies = deviation > 1e-6 * np.abs(codes).max(0)
    return np.where(varies, codes / np.where(varies, deviation, 1), 0)


def measure(evaluation: Evaluation, *, near_zero: Annotated[float, Ge(0)] = 0.1) -> dict[str, Any]:
    """Mean Hoyer measure of normalised posterior means, and the share of means within ``near_zero`` of 0.

    Mathieu et al. 2019 (1812.02833), their sparsity score. Their code divides by a standard deviation with 1/(N − 1),
    which is the same up to scale.
    """
    means = evaluation.codes.mean
    values = hoyer(normalise(means))
    defined = values[np.isfinite(values)]
    return {
        **({"hoyer": float(defined.mean())} if len(defined) else {}),
        "share_near_zero": float((np.abs(means) < near_zero).mean()),
        "protocol": {
            "images": len(means),
            "latents": means.shape[1],
            "hoyer": "posterior means over their standard deviation, latents that do not vary as 0",
            "hoyer_undefined_for": len(values) - len(defined),
            "share_near_zero": f"posterior means with |μ| < {near_zero:g}",
        },
    }


METRIC = Metric(
    measure,
    question="latent space",
    quantities=(Quantity("hoyer", "sparsity of the codes", "Hoyer, 0 to 1", digits=3),),
    order=40,
    synonyms=("hoyer",),
)
