"""Separated attribute predictability: how much better one latent alone predicts a factor than the next one does."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import draw_parts
from vaelab.models.codes import as_finite
from vaelab.system.progress import progress


def sap_of(scores: Float[np.ndarray, "latent factor"]) -> float:
    """Mean over factors of the best latent's score less that of the second best. ValueError for a single latent.

    Kumar et al. 2018 (1711.00848), section 3.
    """
    if len(scores) < 2:
        raise ValueError(f"SAP compares two latents; got scores of {len(scores)}")
    ordered = np.sort(scores, axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def accuracies(
    train_codes: Float[np.ndarray, "n latent"],
    train_factors: Int[np.ndarray, "n factor"],
    codes: Float[np.ndarray, "m latent"],
    factors: Int[np.ndarray, "m factor"],
    C: float = 0.01,
) -> Float[np.ndarray, "latent factor"]:
    """The share of ``factors`` that a linear support vector machine reads off one latent, of factors that vary.

    Each of V values against the rest: the minimum of ½(w² + b²) + C Σ r max(0, 1 − y(wz + b))², with r = n / V n_v for
    the n_v codes with the value and 1 for the rest (of two values: r = n / 2n_v for each side); the largest wz + b is
    the answer. Depends on the scale and the place of the codes.
    """
    from sklearn.svm import LinearSVC

    result = np.empty((codes.shape[1], factors.shape[1]))
    with progress("support vector machines", result.size) as bar:
        for j, k in np.ndindex(result.shape):
            # dual=False: the other solver gives up unconverged on codes of a large scale
            machine = LinearSVC(C=C, class_weight="balanced", dual=False, tol=1e-8, max_iter=10_000)
            machine.fit(train_codes[:, [j]], train_factors[:, k])
            result[j, k] = (machine.predict(codes[:, [j]]) == factors[:, k]).mean()
            bar.advance(1)
    return result


def squared_correlations(
    codes: Float[np.ndarray, "n latent"], factors: Int[np.ndarray, "n factor"]
) -> Float[np.ndarray, "latent factor"]:
    """The share of a factor's variance that a line through one latent explains; 0 for a latent of variance ≤ 10⁻¹²."""
    given, values = (table - table.mean(0) for table in (as_finite(codes), factors.astype(np.float64)))
    variances = (given**2).mean(0)
    explained: NDArray[np.float64] = (given.T @ values / len(given)) ** 2 / (values**2).mean(0)
    return np.where(variances[:, None] > 1e-12, explained / np.where(variances > 1e-12, variances, 1)[:, None], 0)


def measure(
    evaluation: Evaluation,
    *,
    train_draws: Annotated[int, Ge(2)] = 10_000,
    test_draws: Annotated[int, Ge(1)] = 5_000,
    C: Annotated[float, Gt(0)] = 0.01,
) -> dict[str, Any] | None:
    """``sap_of`` two tables of scores of posterior means; None where no factor varies, or for a single latent.

    "sap" is that of ``accuracies`` (discrete factors), "sap_continuous" that of ``squared_correlations`` in the
    training draws, which takes the numbers of a factor's values for quantities. They are not comparable.
    """
    drawn = draw_parts(evaluation, evaluation.generator("sap"), train_draws, test_draws)
    if drawn is None or evaluation.codes.mean.shape[1] < 2:
        return None
    train, test = drawn.train, drawn.test
    scores = accuracies(train.codes, train.factors, test.codes, test.factors, C)
    return {
        "sap": sap_of(scores),
        "sap_continuous": sap_of(squared_correlations(train.codes, train.factors)),
        "accuracies_per_factor": dict(zip(drawn.names, scores.T.tolist(), strict=True)),
        "protocol": {
            **drawn.protocol,
            "sap": f"test accuracy of a linear support vector machine: squared hinge, C = {C:g}, balanced",
            "sap_continuous": "squared correlation with the factor's value, in training",
        },
    }


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(Quantity("sap", "SAP", better="higher", digits=3),),
    order=90,
)
