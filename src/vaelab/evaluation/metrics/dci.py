"""Disentanglement, completeness and informativeness, from the latents that boosted trees use to predict the factors."""

import numpy as np
import torch
from jaxtyping import Float
from pydantic import PositiveInt

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Result
from vaelab.evaluation.metrics._factors import FactorSplit, draw_splits, factor_metric
from vaelab.system.progress import progress

TINY = 1e-11
"""Added to importances before their entropies are computed, as in Locatello et al. 2019 (1811.12359)."""


def concentration(importances: Float[np.ndarray, "row column"]) -> float:
    """Return the mean over rows, weighted by their sums, of 1 − entropy over the columns in units of its maximum.

    For importances R ≥ 0 of latents (rows) for factors (columns) this is the disentanglement D. D is 1 if each latent
    matters for one factor only. For Rᵀ it is the completeness C, which is 1 if each factor needs one latent only. 0 if
    R is 0. Eastwood & Williams 2018 (By-7dz-AZ), section 2. There C is the plain mean, which is equal if the
    importances for each factor add up to 1.
    """
    from scipy.stats import entropy

    if not importances.any():
        return 0.0
    of_rows = 1 - entropy(importances + TINY, base=importances.shape[1], axis=1)
    return max(float(np.average(of_rows, weights=importances.sum(1))), 0.0)


def predict_factors(
    train: FactorSplit, test: FactorSplit, generator: torch.Generator, jobs: int = 1
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " factor"], Float[np.ndarray, " factor"]]:
    """Fit gradient-boosted trees to each factor; return their importances and their training and test accuracies.

    100 stages, depth 3, rate 0.1. The importances for a factor add up to 1, or are 0 if no latent predicts it. Each
    factor has its own seed, which breaks ties between latents, so the result does not depend on ``jobs``, the number of
    processes.
    """
    from joblib import Parallel, delayed
    from sklearn.ensemble import GradientBoostingClassifier

    seeds = torch.randint(2**31 - 1, (train.factors.shape[1],), generator=generator).tolist()
    fits = [delayed(GradientBoostingClassifier(random_state=seed).fit) for seed in seeds]
    # max_nbytes=None: codes reach the other processes through memory, not through a file
    work = Parallel(n_jobs=min(jobs, len(fits)), return_as="generator", max_nbytes=None)
    columns, in_train, in_test = [], [], []
    with progress("boosted trees, one factor at a time", len(fits)) as bar:
        fitted = work(fit(train.codes, values) for fit, values in zip(fits, train.factors.T, strict=True))
        for k, trees in enumerate(fitted):
            columns.append(np.asarray(trees.feature_importances_, np.float64))
            in_train.append(trees.score(train.codes, train.factors[:, k]))
            in_test.append(trees.score(test.codes, test.factors[:, k]))
            bar.advance(1)
    return np.stack(columns, 1), np.array(in_train), np.array(in_test)


def measure(evaluation: Evaluation, *, train_draws: PositiveInt = 10_000, test_draws: PositiveInt = 5_000) -> Result:
    """DCI of posterior means; takes minutes for ten latents.

    "informativeness" is the mean test accuracy, higher being better; the paper reports an error. "majority_accuracy" is
    that of the value most frequent in training. Trees may memorise test draws that are also training draws.
    """
    from scipy.stats import mode

    random = evaluation.generator("dci")
    drawn = draw_splits(evaluation, random, train_draws, test_draws, min_factors=2, min_latents=2)
    importances, in_train, in_test = predict_factors(drawn.train, drawn.test, random, torch.get_num_threads())
    return {
        "disentanglement": concentration(importances),
        "completeness": concentration(importances.T),
        "informativeness": float(in_test.mean()),
        "informativeness_train": float(in_train.mean()),
        "majority_accuracy": float((drawn.test.factors == mode(drawn.train.factors).mode).mean()),
        "informativeness_per_factor": drawn.per_factor(in_test),
        "importances_per_factor": drawn.per_factor(importances.T),
        "protocol": {
            **drawn.protocol,
            "predictor": "gradient-boosted trees: 100 stages, depth 3, rate 0.1",
            "informativeness": "test accuracy, mean over factors",
        },
    }


METRIC = factor_metric(
    measure,
    {
        "disentanglement": "DCI disentanglement",
        "completeness": "DCI completeness",
        "informativeness": "DCI informativeness",
    },
    order=100,
    by_default=frozenset(),
    synonyms=("dci_disentanglement",),
)
