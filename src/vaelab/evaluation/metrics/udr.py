"""How far several models of the same images, trained from other seeds, found the same latents (UDR)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Quantity, Result, SeedMetric
from vaelab.models.codes import ACTIVE_KL
from vaelab.system.progress import progress
from vaelab.system.registry import unknown

Similarity = Literal["lasso", "spearman"]


def relative_strength(R: Float[np.ndarray, "a b"]) -> float:
    """½ [mean over b of (max_a R_ab)²/Σ_a R_ab + mean over a of (max_b R_ab)²/Σ_b R_ab], a term 0 for zeros alone.

    R ≥ 0 is how much each latent of one model has to do with each of another; 1 where it is a permutation. Duan et al.
    2020 (1905.12614), section 4, divide both sums by the latents of both models together: the same for equal numbers.
    """
    return float(sum(_strength(R.astype(np.float64), axis) for axis in (0, 1)) / 2)


def _strength(R: NDArray[np.float64], axis: int) -> float:
    total = R.sum(axis)
    return float((R.max(axis) ** 2 / np.where(total > 0, total, 1)).mean())


def similarity(
    codes: Float[np.ndarray, "n a"],
    other: Float[np.ndarray, "n b"],
    *,
    method: Similarity = "lasso",
    alpha: Annotated[float, Gt(0)] = 0.1,
) -> Float[np.ndarray, "a b"]:
    """|Coefficients| of the lasso that predicts each latent of ``other`` from ``codes``, or |Spearman correlations|.

    Both on codes standardised over the n images (1/n); a latent that does not vary has nothing to do with any. The
    lasso minimises ‖y − Xw‖²/2n + ``alpha`` ‖w‖₁ and is directed: the other way round is another matrix. float64.
    """
    if method not in get_args(Similarity):
        raise unknown("similarity", method, get_args(Similarity))
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    if method == "spearman":
        x, y = (StandardScaler().fit_transform(_ranks(given)) for given in (codes, other))
        correlation: NDArray[np.float64] = np.abs(x.T @ y) / len(x)
        return correlation
    x, y = (StandardScaler().fit_transform(given.astype(np.float64)) for given in (codes, other))
    fitted = Lasso(alpha=alpha, fit_intercept=False, precompute=True, tol=1e-10, max_iter=100_000).fit(x, y)
    coefficients: NDArray[np.float64] = np.abs(np.atleast_2d(fitted.coef_)).T
    return coefficients


def udr(
    codes: Sequence[Float[np.ndarray, "n _"]],
    kls: Sequence[Float[np.ndarray, " _"]],
    *,
    method: Similarity = "lasso",
    alpha: Annotated[float, Gt(0)] = 0.1,
    kl: Annotated[float, Ge(0)] = ACTIVE_KL,
) -> tuple[Float[np.ndarray, " models"], Float[np.ndarray, "models models"]]:
    """The score of each model, and the relative strength of every pair [i, j], similarity of i to j, 0 for i = j.

    Unsupervised disentanglement ranking, Duan et al. 2020 (1905.12614), section 4: a model's score is the median over
    the others i of [i, j]; 0 to 1. ``codes``: posterior means of the same images under each model; ``kls``: mean KL of
    each latent (nats), at most ``kl`` of which leaves the latent out. ValueError for fewer than two models, codes of
    different numbers of images, and a model that diverged or has no latent left.
    """
    kept = _kept(codes, kls, kl)
    count = len(kept)
    pairwise = np.zeros((count, count))
    with progress("comparing models", count * (count - 1)) as bar:
        for i in range(count):
            for j in range(count):
                if i != j:
                    R = similarity(kept[i], kept[j], method=method, alpha=alpha)
                    pairwise[i, j] = relative_strength(R)
                    bar.advance(1)
    others = pairwise.T[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return np.median(others, 1), pairwise


def _kept(codes: Sequence[NDArray[Any]], kls: Sequence[NDArray[Any]], kl: float) -> list[NDArray[Any]]:
    """The codes of each model without the latents that say nothing."""
    if len(codes) < 2 or len(codes) != len(kls):
        raise ValueError(
            f"codes and KLs of two or more models are compared; got codes of {len(codes)}, KLs of {len(kls)}"
        )
    lengths = [len(means) for means in codes]
    if len(set(lengths)) > 1:
        raise ValueError(f"codes of the same images are compared; got {', '.join(map(str, lengths))} images")
    kept = []
    for model, (means, of_latents) in enumerate(zip(codes, kls, strict=True)):
        if len(of_latents) != means.shape[1]:
            raise ValueError(f"model {model} has {means.shape[1]} latents but {len(of_latents)} KLs")
        if not np.isfinite(means).all():
            raise ValueError(
                f"model {model} has codes that are not finite numbers, it has diverged: leave that model out"
            )
        if not (of_latents > kl).any():
            raise ValueError(f"model {model} has no latent with a mean KL above {kl:g} nats: leave that model out")
        kept.append(means[:, of_latents > kl])
    return kept


def measure(evaluations: Sequence[Evaluation]) -> list[Result | None]:
    """The score of each seed among those with an active latent; None for the others, and if no two are left."""
    codes = [evaluation.codes for evaluation in evaluations]
    usable = [i for i in range(len(codes)) if codes[i].is_active.any()]
    if len(usable) < 2:
        return [None] * len(codes)
    scores, _ = udr([codes[i].mean for i in usable], [codes[i].latent_kl for i in usable])
    found = dict(zip(usable, scores.tolist(), strict=True))
    return [{"udr": found[i]} if i in found else None for i in range(len(codes))]


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The rank of each value in its column, equal values all with the mean of theirs."""
    ranks = np.empty(values.shape)
    for j, column in enumerate(values.T):
        _, which, counts = np.unique(column, return_inverse=True, return_counts=True)
        ranks[:, j] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks


METRIC = SeedMetric(
    measure,
    question="disentanglement",
    quantities=(Quantity("udr", "UDR, agreement of seeds", better="higher", digits=3),),
    order=800,
)
