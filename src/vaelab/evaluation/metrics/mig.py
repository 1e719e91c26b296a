"""Mutual information gap: difference in information about a factor between the best two latents."""

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import PositiveInt

from vaelab.data.tensors import subsample
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import AtLeastTwo, Result
from vaelab.evaluation.metrics._factors import (
    Draws,
    FactorSplit,
    describe_factors,
    draw_splits,
    entropy,
    factor_metric,
    histogram_bins,
    mutual_information,
    top_gaps,
    varying_factors,
)
from vaelab.evaluation.metrics.decomposition import aggregate_densities
from vaelab.system.registry import unknown

Protocol = Literal["binned", "chen"]


def pointwise_information(
    z: Float[np.ndarray, "*samples n latent"],
    means: Float[np.ndarray, "n latent"],
    log_vars: Float[np.ndarray, "n latent"],
    factors: Int[np.ndarray, "n factor"],
) -> Float[np.ndarray, "*samples n latent factor"]:
    """Return ln q(z_j|v_k) − ln q(z_j), whose mean over samples ``z[…, n, :]`` of q(z|xₙ) estimates I(z_j; v_k).

    q(z_j) is the exact mixture of all N posteriors. q(z_j|v_k) is the mixture of those whose image has the same value
    of the factor. Nats, float64. Time grows with samples × N × latents × (1 + Σ_k 1 / values of v_k).
    """
    _, log_marginal, _ = aggregate_densities(z, means, log_vars)
    result = np.empty((*z.shape, factors.shape[1]))
    for k, column in enumerate(factors.T):
        of_factor = result[..., k]
        for value in np.unique(column):
            rows = np.flatnonzero(column == value)
            of_factor[..., rows, :] = aggregate_densities(z[..., rows, :], means[rows], log_vars[rows])[1]
    return result - log_marginal[..., None]


def measure(
    evaluation: Evaluation,
    *,
    protocol: Protocol = "binned",
    bins: AtLeastTwo = 20,
    draws: PositiveInt = 10_000,
    max_images: AtLeastTwo = 10_000,
) -> Result:
    """Mean over factors of (I₍₁₎ − I₍₂₎) / H, the largest and second largest information over the factor's entropy.

    "binned": plug-in estimates from ``draws`` posterior means in ``bins`` bins of equal width, as in Locatello et al.
    2019 (1811.12359). "chen": the true densities at one sample of each posterior, as in Chen et al. 2018 (1802.04942),
    section 4, from at most ``max_images`` random images. The two are not comparable. "chen" needs a diagonal posterior
    and computes N² densities of N images for each latent, and as many again over the number of values of each factor.
    """
    if protocol not in get_args(Protocol):
        raise unknown("protocol", protocol, get_args(Protocol))
    if protocol == "chen":
        return _measure_chen(evaluation, max_images)
    drawn = draw_splits(evaluation, evaluation.generator("mig"), draws)
    information = mutual_information(histogram_bins(drawn.train.codes, bins), drawn.train.factors)
    drawn.protocol["information"] = f"plug-in, {bins} bins of equal width over the range of a latent"
    return _result("mig", information, drawn)


def _measure_chen(evaluation: Evaluation, max_images: int) -> Result:
    evaluation.check_needs(frozenset({"diagonal_posterior"}))
    images, random = evaluation.images, evaluation.generator("mig")
    assert images.factors is not None
    rows = subsample(len(images), max_images, random)
    columns = varying_factors(images.factors[rows])
    if not len(columns):
        raise NotMeasurable("needs a factor that varies among the images")
    codes, factors = evaluation.codes.take(rows), images.factors[rows][:, columns]
    means, log_vars = codes.mean.astype(np.float64), codes.log_var.astype(np.float64)
    z = means + np.exp(log_vars / 2) * torch.randn(means.shape, generator=random, dtype=torch.float64).numpy()
    pointwise = pointwise_information(z, means, log_vars, factors)
    protocol = {
        "codes": "one sample of each posterior",
        "images": len(images),
        "sampled_images": len(rows),
        **describe_factors(images, columns),
        "information": "true densities, mixtures of the posteriors of the sampled images",
        "standard_error": "as if the codes were drawn independently",
    }
    split = FactorSplit(z, factors)
    result = _result("mig_chen", pointwise.mean(0), Draws(split, split, protocol))
    result["mig_chen_standard_error"] = _standard_error(pointwise, entropy(factors))
    return result


def _standard_error(pointwise: Float[np.ndarray, "n latent factor"], entropies: NDArray[np.float64]) -> float:
    """Standard error of the mean gap, given which two latents are compared for each factor."""
    from scipy.stats import sem

    padded = np.pad(pointwise, [(0, 0), (0, 2), (0, 0)])  # silent latents, so that none with less is compared
    second, best = np.argsort(padded.mean(0), axis=0)[-2:]
    columns = np.arange(len(entropies))
    return float(sem(((padded[:, best, columns] - padded[:, second, columns]) / entropies).mean(1)))


def _result(name: str, information: Float[np.ndarray, "latent factor"], drawn: Draws) -> Result:
    entropies = entropy(drawn.train.factors)
    gaps = top_gaps(information) / entropies
    return {
        name: float(gaps.mean()),
        f"{name}_per_factor": drawn.per_factor(gaps),
        "mutual_information_per_factor": drawn.per_factor(information.clip(0).T),
        "entropy_per_factor": drawn.per_factor(entropies),
        "protocol": drawn.protocol,
    }


METRIC = factor_metric(measure, {"mig": "MIG"}, decides=True, order=80, synonyms=("mutual_information_gap",))
