"""The mutual information gap: how much more one latent says about a factor than the next one does."""

from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.data.images import subsample
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import (
    describe_factors,
    draw_parts,
    entropy,
    histogram_bins,
    mutual_information,
    varying,
)
from vaelab.evaluation.metrics.decomposition import aggregate_densities
from vaelab.system.registry import unknown

Protocol = Literal["binned", "chen"]


def gaps(
    information: Float[np.ndarray, "latent factor"], entropies: Float[np.ndarray, " factor"]
) -> Float[np.ndarray, " factor"]:
    """(I₍₁₎ − I₍₂₎) / H of each factor, I₍₁₎ and I₍₂₎ the largest and the next I(z_j; v_k), both at least 0.

    Chen et al. 2018 (1802.04942), section 4. A single latent is compared with 0.
    """
    ordered = np.sort(_with_silent(information), axis=0)
    result: NDArray[np.float64] = (ordered[-1] - ordered[-2]) / entropies
    return result


def _with_silent(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """``information[…, latent, factor]`` with two latents more that say nothing, so that none with less is chosen."""
    return np.pad(information, [(0, 0)] * (information.ndim - 2) + [(0, 2), (0, 0)])


def pointwise_information(
    z: Float[np.ndarray, "*samples n latent"],
    means: Float[np.ndarray, "n latent"],
    log_vars: Float[np.ndarray, "n latent"],
    factors: Int[np.ndarray, "n factor"],
) -> Float[np.ndarray, "*samples n latent factor"]:
    """ln q(z_j|v_k) − ln q(z_j) at given samples, whose mean estimates I(z_j; v_k); ``z[…, n, :]`` is one of q(z|xₙ).

    q(z_j) is the exact mixture of all N posteriors given, q(z_j|v_k) of those whose image has the same value of the
    factor as the sample's own. Nats, float64. Time grows with samples × N × latents × (1 + Σ_k 1 / values of v_k).
    """
    _, log_marginal, _ = aggregate_densities(z, means, log_vars)
    result = np.empty((*z.shape, factors.shape[1]))
    for k, column in enumerate(factors.T):
        of_factor = result[..., k]
        for value in np.unique(column):
            (rows,) = np.nonzero(column == value)
            of_factor[..., rows, :] = aggregate_densities(z[..., rows, :], means[rows], log_vars[rows])[1]
    result -= log_marginal[..., None]
    return result


def measure(
    evaluation: Evaluation,
    *,
    protocol: Protocol = "binned",
    bins: Annotated[int, Ge(2)] = 20,
    draws: Annotated[int, Ge(2)] = 10_000,
    most: Annotated[int, Ge(2)] = 10_000,
) -> dict[str, Any] | None:
    """The mean of ``gaps`` by one of two protocols that are not comparable; None if no factor varies.

    "binned": plug-in information and entropies of ``draws`` posterior means, cut into ``bins`` of equal width, as in
    Locatello et al. 2019 (1811.12359). "chen": the true densities of one sample of each posterior, as in Chen et al.
    2018 (1802.04942), section 4; of more than ``most`` images so many are chosen at random, and these alone are mixed.
    That takes ``most``² densities for each latent, by default 10⁸, and for each factor as many again over the number of
    its values. It needs a diagonal posterior.
    """
    if protocol not in get_args(Protocol):
        raise unknown("protocol", protocol, get_args(Protocol))
    if protocol == "chen":
        return _measure_chen(evaluation, most)
    drawn = draw_parts(evaluation, evaluation.generator("mig"), draws)
    if drawn is None:
        return None
    information = mutual_information(histogram_bins(drawn.train.codes, bins), drawn.train.factors)
    made = {**drawn.protocol, "information": f"plug-in, {bins} bins of equal width over the range of a latent"}
    return _result("mig", information, entropy(drawn.train.factors), made)


def _measure_chen(evaluation: Evaluation, most: int) -> dict[str, Any] | None:
    evaluation.require("mig.protocol=chen", "diagonal_posterior")
    images, random = evaluation.images, evaluation.generator("mig")
    assert images.factors is not None
    rows = subsample(len(images), most, random)
    factors, kept = varying(images.factors[rows])
    if not len(kept):
        return None
    codes = evaluation.codes.take(rows)
    means, log_vars = codes.mean.astype(np.float64), codes.log_var.astype(np.float64)
    noise = torch.randn(means.shape, generator=random, dtype=torch.float64).numpy()
    pointwise = pointwise_information(means + np.exp(log_vars / 2) * noise, means, log_vars, factors)
    made = {
        "codes": "one sample of each posterior",
        "images": len(images),
        "sampled_images": len(rows),
        **describe_factors(images, kept),
        "information": "true densities, mixtures of the posteriors of the sampled images",
        "standard_error": "as of codes drawn independently",
    }
    result = _result("mig_chen", pointwise.mean(0), entropy(factors), made)
    result["mig_chen_standard_error"] = _standard_error(pointwise, entropy(factors))
    return result


def _standard_error(pointwise: NDArray[np.float64], entropies: NDArray[np.float64]) -> float:
    """Of the mean of the gaps, from ``[n, latent, factor]``, the two latents of each factor taken as chosen before."""
    padded, columns = _with_silent(pointwise), np.arange(len(entropies))
    second, best = np.argsort(padded.mean(0), axis=0)[-2:]
    of_codes = ((padded[:, best, columns] - padded[:, second, columns]) / entropies).mean(1)
    return float(of_codes.std(ddof=1) / np.sqrt(len(of_codes)))


def _result(
    name: str, information: NDArray[np.float64], entropies: NDArray[np.float64], protocol: dict[str, Any]
) -> dict[str, Any]:
    of_factors, names = gaps(information, entropies), protocol["factors"]
    return {
        name: float(of_factors.mean()),
        f"{name}_per_factor": dict(zip(names, of_factors.tolist(), strict=True)),
        "mutual_information_per_factor": dict(zip(names, information.clip(0).T.tolist(), strict=True)),
        "entropy_per_factor": dict(zip(names, entropies.tolist(), strict=True)),
        "protocol": protocol,
    }


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(Quantity("mig", "MIG", better="higher", digits=3),),
    order=80,
    synonyms=("mutual_information_gap",),
)
