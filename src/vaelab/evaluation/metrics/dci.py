"""Disentanglement, completeness and informativeness, by what boosted trees that predict the factors make use of."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import draw_parts
from vaelab.system.progress import progress

TINY = 1e-11
"""Added to importances before their entropies are taken, as in the study of Locatello et al. 2019 (1811.12359)."""


def disentanglement_completeness(importances: Float[np.ndarray, "latent factor"]) -> tuple[float, float]:
    """D, whether each latent matters for one factor only, and C, whether each factor needs one latent only; 0 … 1.

    D = Σ_j ρ_j (1 − H(R_jk / Σ_k R_jk) / ln K) of importances R ≥ 0, ρ_j the latent's share of them all; C the same of
    factors: Eastwood & Williams 2018 (By-7dz-AZ), section 2, where C is the plain mean, which it equals if the
    importances for each factor add up to 1. 0 where all are 0. ValueError for one latent or one factor.
    """
    latents, factors = importances.shape
    if min(latents, factors) < 2:
        raise ValueError(f"DCI compares latents and factors; got {latents} and {factors}")
    return _concentration(importances), _concentration(importances.T)


def _concentration(importances: NDArray[np.float64]) -> float:
    """Mean over rows, weighing as much as they sum up to, of 1 − entropy over columns, to the base of their number."""
    if not importances.any():
        return 0.0
    share = (importances + TINY) / (importances + TINY).sum(1, keepdims=True)
    of_rows = 1 + (share * np.log(share)).sum(1) / np.log(importances.shape[1])
    return max(float(np.average(of_rows, weights=importances.sum(1))), 0.0)


def importances(
    train_codes: Float[np.ndarray, "n latent"],
    train_factors: Int[np.ndarray, "n factor"],
    codes: Float[np.ndarray, "m latent"],
    factors: Int[np.ndarray, "m factor"],
    generator: torch.Generator,
    jobs: int = 1,
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " factor"], Float[np.ndarray, " factor"]]:
    """What each latent contributes to predicting each factor, 1 in all; accuracies in training and of ``factors``.

    Gradient-boosted trees for each factor, which must vary in training: 100 stages, depth 3, rate 0.1. Contributions
    are all 0 where no latent tells anything. Every factor has a seed of its own, which breaks ties between latents: the
    result is the same for any number of processes, ``jobs``.
    """
    from joblib import Parallel, delayed
    from sklearn.ensemble import GradientBoostingClassifier

    seeds = torch.randint(2**31 - 1, (train_factors.shape[1],), generator=generator).tolist()
    fits = [delayed(GradientBoostingClassifier(random_state=seed).fit) for seed in seeds]
    # max_nbytes: codes go to the other processes by way of memory, not of a file
    work = Parallel(n_jobs=min(jobs, len(fits)), return_as="generator", max_nbytes=None)
    columns, in_training, in_test = [], [], []
    with progress("boosted trees, a factor at a time", len(fits)) as bar:
        trees_of_factors = work(fit(train_codes, values) for fit, values in zip(fits, train_factors.T, strict=True))
        for trees, train_values, values in zip(trees_of_factors, train_factors.T, factors.T, strict=True):
            columns.append(np.asarray(trees.feature_importances_, np.float64))
            in_training.append((trees.predict(train_codes) == train_values).mean())
            in_test.append((trees.predict(codes) == values).mean())
            bar.advance(1)
    return np.stack(columns, 1), np.array(in_training), np.array(in_test)


def measure(
    evaluation: Evaluation,
    *,
    train_draws: Annotated[int, Ge(2)] = 10_000,
    test_draws: Annotated[int, Ge(1)] = 5_000,
) -> dict[str, Any] | None:
    """``disentanglement_completeness`` of posterior means, and the trees' accuracies; minutes for ten latents.

    None if fewer than two factors vary, or for a single latent. "informativeness" is the accuracy in test, mean over
    factors, higher being better (in the paper: an error); "majority_accuracy" is that of always giving the value most
    frequent in training. Where test draws were drawn in training, too, trees may know them by heart.
    """
    random = evaluation.generator("dci")
    drawn = draw_parts(evaluation, random, train_draws, test_draws)
    if drawn is None or len(drawn.names) < 2 or evaluation.codes.mean.shape[1] < 2:
        return None
    train, test = drawn.train, drawn.test
    jobs = torch.get_num_threads()
    matrix, in_training, in_test = importances(train.codes, train.factors, test.codes, test.factors, random, jobs)
    disentanglement, completeness = disentanglement_completeness(matrix)
    return {
        "disentanglement": disentanglement,
        "completeness": completeness,
        "informativeness": float(in_test.mean()),
        "informativeness_in_training": float(in_training.mean()),
        "majority_accuracy": _majority_accuracy(train.factors, test.factors),
        "informativeness_per_factor": dict(zip(drawn.names, in_test.tolist(), strict=True)),
        "importances_per_factor": dict(zip(drawn.names, matrix.T.tolist(), strict=True)),
        "protocol": {
            **drawn.protocol,
            "predictor": "gradient-boosted trees: 100 stages, depth 3, rate 0.1",
            "informativeness": "accuracy in test, mean over factors",
        },
    }


def _majority_accuracy(train_factors: Int[np.ndarray, "n factor"], factors: Int[np.ndarray, "m factor"]) -> float:
    scores = []
    for train_values, values in zip(train_factors.T, factors.T, strict=True):
        known, counts = np.unique(train_values, return_counts=True)
        scores.append((values == known[counts.argmax()]).mean())
    return float(np.mean(scores))


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    by_default=frozenset(),
    quantities=(
        Quantity("disentanglement", "DCI disentanglement", better="higher", digits=3),
        Quantity("completeness", "DCI completeness", better="higher", digits=3),
        Quantity("informativeness", "DCI informativeness", better="higher", digits=3),
    ),
    order=100,
    synonyms=("dci_disentanglement",),
)
