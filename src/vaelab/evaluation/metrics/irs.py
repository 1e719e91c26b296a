"""The interventional robustness score: how little a latent moves while one factor stays and all others change."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float, Int

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import draw_parts
from vaelab.models.codes import as_finite


def robustness(
    codes: Float[np.ndarray, "n latent"], factors: Int[np.ndarray, "n factor"], quantile: float = 0.99
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " latent"]]:
    """1 − (mean over values v of q(|c − mean_v|)) / max|c − mean| of each latent and factor, and max|c − mean|.

    q is a quantile over the codes with the value: 0.99 in the study of Locatello et al. 2019 (1811.12359), 1 (the
    maximum) in Suter et al. 2019 (1811.00007). Both are 0 for a latent that does not vary. ValueError for codes that
    are not finite.
    """
    given = as_finite(codes)
    varies = given.max(0) > given.min(0)  # computed, the deviations of equal numbers may be rounding errors
    farthest = np.where(varies, np.abs(given - given.mean(0)).max(0), 0)
    result = np.zeros((given.shape[1], factors.shape[1]))
    for k, column in enumerate(factors.T):
        groups = [given[column == value] for value in np.unique(column)]
        moved = np.mean([np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups], axis=0)
        result[varies, k] = 1 - moved[varies] / farthest[varies]
    return result, farthest


def irs_of(of_factors: Float[np.ndarray, "latent factor"], weights: Float[np.ndarray, " latent"]) -> float:
    """Mean over latents, each weighing max|c − mean|, of its largest ``robustness``; 0 where no latent varies."""
    return float(np.average(of_factors.max(1), weights=weights)) if weights.any() else 0.0


def measure(
    evaluation: Evaluation,
    *,
    quantile: Annotated[float, Ge(0), Le(1)] = 0.99,
    draws: Annotated[int, Ge(2)] = 10_000,
) -> dict[str, Any] | None:
    """``irs_of`` the ``robustness`` of posterior means; None if no factor varies.

    At most 1, and 0 or more but for a latent whose rare values lie far from the rest.
    """
    drawn = draw_parts(evaluation, evaluation.generator("irs"), draws)
    if drawn is None:
        return None
    of_factors, weights = robustness(drawn.train.codes, drawn.train.factors, quantile)
    return {
        "irs": irs_of(of_factors, weights),
        "robustness_per_factor": dict(zip(drawn.names, of_factors.T.tolist(), strict=True)),
        "latents_that_do_not_vary": int((weights == 0).sum()),
        "protocol": {**drawn.protocol, "quantile_of_deviations": quantile},
    }


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(Quantity("irs", "IRS", better="higher", digits=3),),
    order=120,
)
