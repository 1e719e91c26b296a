"""Modularity, whether each latent says something about one factor only, and explicitness, whether all are told."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import draw_parts, histogram_bins, mutual_information
from vaelab.system.progress import progress


def modularity_per_latent(information: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, " latent"]:
    """1 − Σ_{k ≠ best} I_jk² / (I_j,best² (K − 1)) of I_jk ≥ 0; 0 for a latent without any information.

    Ridgeway & Mozer 2018 (1802.05312). ValueError for a single factor.
    """
    num_factors = information.shape[1]
    if num_factors < 2:
        raise ValueError(f"modularity compares two factors; got the information on {num_factors}")
    best = information.max(1)
    share = information / np.where(best > 0, best, 1)[:, None]
    return np.where(best > 0, 1 - ((share**2).sum(1) - 1) / (num_factors - 1), 0)


def modularity_of(information: Float[np.ndarray, "latent factor"]) -> float:
    """Mean of ``modularity_per_latent`` over all latents, those without any information included."""
    return float(modularity_per_latent(information).mean())


def explicitness(
    train_codes: Float[np.ndarray, "n latent"],
    train_values: Int[np.ndarray, " n"],
    codes: Float[np.ndarray, "m latent"],
    values: Int[np.ndarray, " m"],
    C: float = 1.0,
) -> float | None:
    """ROC-AUC of one value of a factor against the rest, mean over its values; 0.5 where the codes do not tell it.

    By the probabilities of a multinomial logistic regression (½‖W‖² + C Σ log-loss, bias free; of two values W is the
    one weight of the log odds) on codes standardised by those learnt from. Values that none of those learnt from has,
    or all or none of those tested, are left out; None where that leaves none. Ridgeway & Mozer 2018 (1802.05312).
    ValueError for a factor of one value.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-6, max_iter=10_000))
    model.fit(train_codes.astype(np.float64), train_values)
    probabilities = model.predict_proba(codes.astype(np.float64))
    curves = [
        roc_auc_score(values == value, probabilities[:, column])
        for column, value in enumerate(model.classes_)
        if 0 < (values == value).sum() < len(values)
    ]
    return float(np.mean(curves)) if curves else None


def measure(
    evaluation: Evaluation,
    *,
    bins: Annotated[int, Ge(2)] = 20,
    train_draws: Annotated[int, Ge(2)] = 10_000,
    test_draws: Annotated[int, Ge(1)] = 5_000,
    C: Annotated[float, Gt(0)] = 1.0,
) -> dict[str, Any] | None:
    """``modularity_of`` posterior means if two factors vary, and the mean over factors of their ``explicitness``.

    Means are cut into ``bins`` of equal width (Locatello et al. 2019, 1811.12359). None if no factor varies.
    """
    drawn = draw_parts(evaluation, evaluation.generator("modularity"), train_draws, test_draws)
    if drawn is None:
        return None
    train, test = drawn.train, drawn.test
    result: dict[str, Any] = {}
    if len(drawn.names) > 1:
        information = mutual_information(histogram_bins(train.codes, bins), train.factors)
        result["modularity"] = modularity_of(information)
        result["modularity_per_latent"] = modularity_per_latent(information).tolist()
        result["latents_without_information"] = int((information.max(1) == 0).sum())
    explicit = _explicitness_per_factor(train.codes, train.factors, test.codes, test.factors, C)
    of_factors = {name: value for name, value in zip(drawn.names, explicit, strict=True) if value is not None}
    if of_factors:
        result["explicitness"] = float(np.mean(list(of_factors.values())))
        result["explicitness_per_factor"] = of_factors
    made = {
        **drawn.protocol,
        "modularity": f"plug-in information in training, {bins} bins of equal width over the range of a latent",
        "explicitness": f"test ROC-AUC, multinomial logistic regression, ½|W|² + {C:g} Σ log-loss, bias free",
    }
    return {**result, "protocol": made} if result else None


def _explicitness_per_factor(
    train_codes: NDArray[np.float64],
    train_factors: NDArray[Any],
    codes: NDArray[np.float64],
    factors: NDArray[Any],
    C: float,
) -> list[float | None]:
    scores = []
    with progress("explicitness", factors.shape[1]) as bar:
        for train_values, values in zip(train_factors.T, factors.T, strict=True):
            scores.append(explicitness(train_codes, train_values, codes, values, C))
            bar.advance(1)
    return scores


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(
        Quantity("modularity", "modularity", better="higher", digits=3),
        Quantity("explicitness", "explicitness", better="higher", digits=3),
    ),
    order=110,
)
