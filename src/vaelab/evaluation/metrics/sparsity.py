"""Sparsity of the codes: how few latents each single image uses."""

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.codes import as_finite


def hoyer(vectors: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
    """Return (√d − ‖y‖₁/‖y‖₂) / (√d − 1) of each vector: 0 for d entries of equal size, 1 for a single non-zero one.

    Hoyer 2004 (cs/0408058). float64; nan for a zero vector and for d = 1, where it is undefined.
    """
    y = np.abs(vectors.astype(np.float64))
    if y.shape[1] == 1:
        return np.full(len(y), np.nan)
    peak = y.max(1, keepdims=True)
    y = y / np.where(peak > 0, peak, np.nan)  # the measure does not depend on scale, but squares may underflow
    root = math.sqrt(y.shape[1])
    values: NDArray[np.float64] = (root - y.sum(1) / np.sqrt((y**2).sum(1))) / (root - 1)
    return values


def rescale(means: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, "n latent"]:
    """Divide codes by the standard deviation (1/N) of each latent, without centring; a constant latent becomes 0.

    Constant means a standard deviation below 10⁻⁶ of the latent's largest magnitude, which float32 rounding alone
    causes. Raises ValueError for codes that are not finite.
    """
    codes = as_finite(means)
    deviation = codes.std(0)
    varies = deviation > 1e-6 * np.abs(codes).max(0)
    return np.where(varies, codes / np.where(varies, deviation, 1), 0)


def measure(evaluation: Evaluation, *, near_zero: NonNegativeFloat = 0.1) -> Result:
    """Mean Hoyer measure of rescaled posterior means, and the share of posterior means within ``near_zero`` of 0.

    The sparsity score of Mathieu et al. 2019 (1812.02833). Their code divides by a standard deviation with 1/(N − 1),
    which gives the same value.
    """
    means = evaluation.codes.mean
    values = hoyer(rescale(means))
    defined = values[np.isfinite(values)]
    return {
        **({"hoyer": float(defined.mean())} if len(defined) else {}),
        "share_near_zero": float((np.abs(means) < near_zero).mean()),
        "protocol": {
            "images": len(means),
            "latents": means.shape[1],
            "hoyer": "posterior means over their standard deviation, constant latents as 0",
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
