"""Interventional robustness score: stability of a latent while one factor is fixed and all others change."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float
from pydantic import PositiveInt

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Result
from vaelab.evaluation.metrics._factors import FactorSplit, draw_splits, factor_metric
from vaelab.models.codes import as_finite


def robustness(
    split: FactorSplit, quantile: float = 0.99
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " latent"]]:
    """Return 1 − (mean over values v of q(|c − mean_v|)) / max|c − mean| of each latent and factor, and max|c − mean|.

    q is a quantile over the codes with value v: 0.99 in Locatello et al. 2019 (1811.12359), 1 (the maximum) in Suter et
    al. 2019 (1811.00007). Both are 0 for a constant latent. Raises ValueError for codes that are not finite.
    """
    codes = as_finite(split.codes)
    varies = codes.max(0) > codes.min(0)  # the computed deviations of equal numbers may be rounding errors
    reach = np.where(varies, np.abs(codes - codes.mean(0)).max(0), 0)
    result = np.zeros((codes.shape[1], split.factors.shape[1]))
    for k, column in enumerate(split.factors.T):
        groups = [codes[column == value] for value in np.unique(column)]
        moved = np.mean([np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups], axis=0)
        result[varies, k] = 1 - moved[varies] / reach[varies]
    return result, reach


def irs(robust: Float[np.ndarray, "latent factor"], reach: Float[np.ndarray, " latent"]) -> float:
    """Return the mean over latents of their largest robustness, weighted by their reach; 0 if no latent varies."""
    return float(np.average(robust.max(1), weights=reach)) if reach.any() else 0.0


def measure(
    evaluation: Evaluation, *, quantile: Annotated[float, Ge(0), Le(1)] = 0.99, draws: PositiveInt = 10_000
) -> Result:
    """IRS of posterior means: at most 1, and negative only for a latent whose rare values lie far from the rest."""
    drawn = draw_splits(evaluation, evaluation.generator("irs"), draws)
    robust, reach = robustness(drawn.train, quantile)
    return {
        "irs": irs(robust, reach),
        "robustness_per_factor": drawn.per_factor(robust.T),
        "constant_latents": int((reach == 0).sum()),
        "protocol": {**drawn.protocol, "quantile_of_deviations": quantile},
    }


METRIC = factor_metric(measure, {"irs": "IRS"}, order=120)
