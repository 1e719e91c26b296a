"""Unsupervised disentanglement ranking (UDR): agreement of latents between models with different seeds."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Quantity, Result, SeedMetric
from vaelab.models.codes import ACTIVE_KL, as_finite
from vaelab.system.progress import progress
from vaelab.system.registry import unknown

Similarity = Literal["lasso", "spearman"]


def relative_strength(R: Float[np.ndarray, "a b"]) -> float:
    """Return ½ [mean_b (max_a R_ab)² / Σ_a R_ab + mean_a (max_b R_ab)² / Σ_b R_ab], with 0 for 0/0.

    R ≥ 0 is the similarity of each latent of one model to each latent of another; the result is 1 for a permutation.
    Duan et al. 2020 (1905.12614), section 4, divide both sums by the number of latents of both models together, which
    is the same for equal numbers.
    """
    return float(sum(_strength(R.astype(np.float64), axis) for axis in (0, 1)) / 2)


def _strength(R: NDArray[np.float64], axis: int) -> float:
    total = R.sum(axis)
    return float((R.max(axis) ** 2 / np.where(total > 0, total, 1)).mean())


def similarity(
    codes: Float[np.ndarray, "n a"], other: Float[np.ndarray, "n b"], method: Similarity = "lasso", alpha: float = 0.1
) -> Float[np.ndarray, "a b"]:
    """Return |coefficients| of the lasso that predicts each latent of ``other``, or |Spearman correlations|; float64.

    Codes are standardised over the n images (1/n); a constant latent is similar to none. The lasso minimises
    ‖y − Xw‖²/2n + ``alpha`` ‖w‖₁ and is directed: exchanging the arguments gives a different matrix.
    """
    if method not in get_args(Similarity):
        raise unknown("similarity", method, get_args(Similarity))
    from scipy.stats import rankdata
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    given = (rankdata(values, axis=0) if method == "spearman" else values for values in (codes, other))
    x, y = (StandardScaler().fit_transform(values.astype(np.float64)) for values in given)
    if method == "spearman":
        correlations: NDArray[np.float64] = np.abs(x.T @ y) / len(x)
        return correlations
    fitted = Lasso(alpha=alpha, fit_intercept=False, precompute=True, tol=1e-10, max_iter=100_000).fit(x, y)
    coefficients: NDArray[np.float64] = np.abs(np.atleast_2d(fitted.coef_)).T
    return coefficients


def udr(
    codes: Sequence[Float[np.ndarray, "n _"]],
    kls: Sequence[Float[np.ndarray, " _"]],
    *,
    method: Similarity = "lasso",
    alpha: float = 0.1,
    kl: float = ACTIVE_KL,
) -> tuple[Float[np.ndarray, " models"], Float[np.ndarray, "models models"]]:
    """Return the score of each model, 0 to 1, and the relative strength of the similarity of i to j for each pair.

    Duan et al. 2020 (1905.12614), section 4: the score of model j is the median of the pairs [i, j] over all i ≠ j.
    ``codes``: posterior means of the same images for two or more models. ``kls``: mean KL of each latent in nats;
    latents with ``kl`` or less are left out. Raises ValueError for codes of different numbers of images or not finite,
    and for a model without a latent above ``kl``.
    """
    count = len(codes)
    if count < 2 or len({len(means) for means in codes}) > 1:
        sizes = ", ".join(str(len(means)) for means in codes)
        raise ValueError(f"UDR compares codes of the same images for two or more models; got {sizes} codes")
    kept = [as_finite(means)[:, of_latents > kl] for means, of_latents in zip(codes, kls, strict=True)]
    for model, means in enumerate(kept):
        if not means.shape[1]:
            raise ValueError(f"model {model} has no latent with a mean KL above {kl:g} nats: leave that model out")
    pairwise = np.zeros((count, count))
    with progress("comparing models", count * (count - 1)) as bar:
        for i, j in np.argwhere(~np.eye(count, dtype=bool)):
            pairwise[i, j] = relative_strength(similarity(kept[i], kept[j], method, alpha))
            bar.advance(1)
    others = pairwise.T[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return np.median(others, 1), pairwise


def measure(evaluations: Sequence[Evaluation]) -> list[Result | str]:
    """Score of each seed among those with an active latent."""
    codes = [evaluation.codes for evaluation in evaluations]
    active = [i for i in range(len(codes)) if codes[i].is_active.any()]
    if len(active) < 2:
        return ["needs two seeds with an active latent"] * len(codes)
    scores, _ = udr([codes[i].mean for i in active], [codes[i].latent_kl for i in active])
    found = dict(zip(active, scores.tolist(), strict=True))
    return [{"udr": found[i]} if i in found else "needs an active latent" for i in range(len(codes))]


METRIC = SeedMetric(
    measure,
    question="disentanglement",
    quantities=(Quantity("udr", "UDR, agreement of seeds", better="higher", digits=3),),
    order=800,
)
