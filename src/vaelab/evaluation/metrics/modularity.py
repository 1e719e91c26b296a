"""Modularity: whether each latent depends on a single factor. Explicitness: whether factors are linearly decodable."""

import numpy as np
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt

from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import AtLeastTwo, Result
from vaelab.evaluation.metrics._factors import (
    FactorSplit,
    draw_splits,
    factor_metric,
    histogram_bins,
    mutual_information,
)
from vaelab.system.progress import progress


def modularity_per_latent(information: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, " latent"]:
    """Return 1 − Σ_{k ≠ best} I_jk² / (I_j,best² (K − 1)) of I_jk ≥ 0; 0 for a latent without any information.

    Ridgeway & Mozer 2018 (1802.05312), for two or more factors. The score is the mean over all latents.
    """
    best = information.max(1)
    share = information / np.where(best > 0, best, 1)[:, None]
    return np.where(best > 0, 1 - ((share**2).sum(1) - 1) / (information.shape[1] - 1), 0)


def explicitness_per_factor(train: FactorSplit, test: FactorSplit, C: float = 1.0) -> Float[np.ndarray, " factor"]:
    """Return the one-vs-rest ROC-AUC of the values of each factor on ``test``, mean over values; 0.5 is chance.

    From the probabilities of a multinomial logistic regression (½‖W‖² + C Σ log-loss, free bias) on codes standardised
    over ``train``. For two values, W is the single weight of the log-odds. Values missing in ``train`` or ``test`` are
    left out; nan if none are left. Ridgeway & Mozer 2018 (1802.05312). Raises ValueError for a factor with one value.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full(train.factors.shape[1], np.nan)
    with progress("explicitness", len(scores)) as bar:
        for k, values in enumerate(test.factors.T):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-6, max_iter=10_000))
            probabilities = model.fit(train.codes, train.factors[:, k]).predict_proba(test.codes)
            of_values = [
                roc_auc_score(values == value, probabilities[:, column])
                for column, value in enumerate(model.classes_)
                if 0 < (values == value).sum() < len(values)
            ]
            scores[k] = np.mean(of_values) if of_values else np.nan
            bar.advance(1)
    return scores


def measure(
    evaluation: Evaluation,
    *,
    bins: AtLeastTwo = 20,
    train_draws: PositiveInt = 10_000,
    test_draws: PositiveInt = 5_000,
    C: PositiveFloat = 1.0,
) -> Result:
    """Modularity of posterior means, if two factors vary, and the mean explicitness of the factors.

    The means are cut into ``bins`` bins of equal width (Locatello et al. 2019, 1811.12359).
    """
    drawn = draw_splits(evaluation, evaluation.generator("modularity"), train_draws, test_draws)
    train, result = drawn.train, Result()
    if train.factors.shape[1] > 1:
        information = mutual_information(histogram_bins(train.codes, bins), train.factors)
        of_latents = modularity_per_latent(information)
        result["modularity"] = float(of_latents.mean())
        result["modularity_per_latent"] = of_latents.tolist()
        result["latents_without_information"] = int((information.max(1) == 0).sum())
    of_factors = explicitness_per_factor(train, drawn.test, C)
    if np.isfinite(of_factors).any():
        result["explicitness"] = float(np.nanmean(of_factors))
        found = drawn.per_factor(of_factors)
        result["explicitness_per_factor"] = {name: value for name, value in found.items() if np.isfinite(value)}
    if not result:
        raise NotMeasurable("needs a second factor, or a factor that varies among the test draws")
    protocol = {
        **drawn.protocol,
        "modularity": f"plug-in information in training, {bins} bins of equal width over the range of a latent",
        "explicitness": f"test ROC-AUC, multinomial logistic regression, ½|W|² + {C:g} Σ log-loss, free bias",
    }
    return {**result, "protocol": protocol}


METRIC = factor_metric(measure, {"modularity": "modularity", "explicitness": "explicitness"}, order=110)
