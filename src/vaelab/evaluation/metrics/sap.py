"""Separated attribute predictability: difference in predictive score for a factor between the best two latents."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Result
from vaelab.evaluation.metrics._factors import FactorSplit, draw_splits, factor_metric, top_gaps
from vaelab.models.codes import as_finite
from vaelab.system.progress import progress


def svm_accuracies(train: FactorSplit, test: FactorSplit, C: float = 0.01) -> Float[np.ndarray, "latent factor"]:
    """Return the test accuracy of a linear support vector machine that predicts each factor from each single latent.

    For each of V values against the rest it minimises ½(w² + b²) + C Σ r max(0, 1 − y(wz + b))². The weight r is
    n / V n_v for the n_v codes with the value and 1 for the rest; for two values, n / 2n_v on each side. It predicts
    the value with the largest wz + b. Depends on the scale and the offset of the codes.
    """
    from sklearn.svm import LinearSVC

    result = np.empty((train.codes.shape[1], train.factors.shape[1]))
    with progress("support vector machines", result.size) as bar:
        for j, k in np.ndindex(result.shape):
            # dual=False: the dual solver stops unconverged on codes of a large scale
            svm = LinearSVC(C=C, class_weight="balanced", dual=False, tol=1e-8, max_iter=10_000)
            svm.fit(train.codes[:, [j]], train.factors[:, k])
            result[j, k] = svm.score(test.codes[:, [j]], test.factors[:, k])
            bar.advance(1)
    return result


def squared_correlations(split: FactorSplit) -> Float[np.ndarray, "latent factor"]:
    """Return the squared correlation of each latent and factor; 0 for a latent with a variance of 10⁻¹² or less."""
    codes, factors = (table - table.mean(0) for table in (as_finite(split.codes), split.factors.astype(np.float64)))
    variances = (codes**2).mean(0)[:, None]
    explained: NDArray[np.float64] = (codes.T @ factors / len(codes)) ** 2 / (factors**2).mean(0)
    return np.where(variances > 1e-12, explained / np.where(variances > 1e-12, variances, 1), 0)


def measure(
    evaluation: Evaluation,
    *,
    train_draws: PositiveInt = 10_000,
    test_draws: PositiveInt = 5_000,
    C: PositiveFloat = 0.01,
) -> Result:
    """Mean over factors of the best latent's score minus the second best's (Kumar et al. 2018, 1711.00848, section 3).

    "sap" uses ``svm_accuracies``. "sap_continuous" uses ``squared_correlations`` in the training draws, which treats
    the values of a factor as quantities. The two are not comparable.
    """
    drawn = draw_splits(evaluation, evaluation.generator("sap"), train_draws, test_draws, min_latents=2)
    accuracies = svm_accuracies(drawn.train, drawn.test, C)
    return {
        "sap": float(top_gaps(accuracies).mean()),
        "sap_continuous": float(top_gaps(squared_correlations(drawn.train)).mean()),
        "accuracies_per_factor": drawn.per_factor(accuracies.T),
        "protocol": {
            **drawn.protocol,
            "sap": f"test accuracy of a linear support vector machine: squared hinge, C = {C:g}, balanced",
            "sap_continuous": "squared correlation with the factor's value, in training",
        },
    }


METRIC = factor_metric(measure, {"sap": "SAP"}, order=90)
