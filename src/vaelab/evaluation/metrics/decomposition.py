"""What the KL term is made of: index-code mutual information, total correlation, dimension-wise KL."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.data.images import subsample
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models.codes import as_finite
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density
from vaelab.models.priors.normal import StandardNormal
from vaelab.system.progress import progress

LEAST_SAMPLES = 10_000
"""Samples in total, where not told how many to draw of each posterior."""
BLOCK = 1 << 18
"""Pairs of sample and component at a time: 2 MB, which stays in a processor's cache."""

Densities = tuple[
    Float[np.ndarray, "*samples n"], Float[np.ndarray, "*samples n latent"], Float[np.ndarray, "*samples n"]
]


def aggregate_densities(
    z: Float[np.ndarray, "*samples n latent"],
    means: Float[np.ndarray, "n latent"],
    log_vars: Float[np.ndarray, "n latent"],
) -> Densities:
    """ln q(z), ln q(z_j) of every latent, and ln q(z|xₙ) at given samples; ``z[…, n, :]`` is one of q(z|xₙ).

    q(z) = 1/N Σₙ q(z|xₙ) is the exact mixture of all N posteriors given: ln q(z) = ln Σₙ exp Σ_j ln q(z_j|xₙ) − ln N
    (Chen et al. 2018, 1802.04942, section 2). Nats, float64; the same bits on any number of threads. Time grows with
    samples × N × latents, memory beyond the results does not.
    """
    points = z.astype(np.float64)
    given = _normal(means, log_vars).log_prob(torch.from_numpy(points))
    points = points.reshape(-1, z.shape[-1])
    joint, single = np.empty(len(points)), np.empty_like(points)
    log_mixture = _LogMixture(means, log_vars)
    step = max(1, BLOCK // len(means))
    starts = range(0, len(points), step)
    with (
        progress("densities of the aggregate posterior", len(points)) as bar,
        ThreadPoolExecutor(torch.get_num_threads()) as threads,
    ):
        for start, (of_code, of_latents) in zip(
            starts, threads.map(lambda start: log_mixture(points[start : start + step]), starts), strict=True
        ):
            joint[start : start + step], single[start : start + step] = of_code, of_latents
            bar.advance(len(of_code))
    return joint.reshape(given.shape), single.reshape(z.shape), given.numpy()


class _LogMixture:
    """ln of a mixture of diagonal normal distributions in equal parts, of a code and of each of its latents alone.

    From the differences z − μ themselves: squares that were multiplied out, as matrix products want them, lose all
    digits where a variance is tiny.
    """

    def __init__(self, means: NDArray[Any], log_vars: NDArray[Any]) -> None:
        log_vars = log_vars.astype(np.float64)
        self._means = np.ascontiguousarray(means.T, np.float64)
        self._scales = np.ascontiguousarray(math.sqrt(0.5) * np.exp(-0.5 * log_vars).T)
        self._heights = np.ascontiguousarray(-0.5 * (log_vars + math.log(2 * math.pi)).T)

    def __call__(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        num_latents, count = self._means.shape
        joint, log_prob = np.zeros((len(z), count)), np.empty((len(z), count))
        single = np.empty_like(z)
        for j in range(num_latents):
            np.subtract(z[:, j, None], self._means[j], out=log_prob)
            log_prob *= self._scales[j]
            log_prob *= log_prob
            np.subtract(self._heights[j], log_prob, out=log_prob)
            joint += log_prob
            single[:, j] = _log_sum_exp(log_prob)
        return _log_sum_exp(joint) - math.log(count), single - math.log(count)


def _log_sum_exp(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln Σ exp of each row, which is overwritten."""
    peak = rows.max(1)
    rows -= peak[:, None]
    np.exp(rows, out=rows)
    sums: NDArray[np.float64] = peak + np.log(rows.sum(1))
    return sums


def kl_decomposition(
    means: Float[np.ndarray, "n latent"],
    log_vars: Float[np.ndarray, "n latent"],
    generator: torch.Generator,
    *,
    prior: Density | None = None,
    samples: int | None = None,
) -> dict[str, Any]:
    """KL(q(z|x) ‖ p(z)), mean over n, as I_q(n; z) + KL(q(z) ‖ Π_j q(z_j)) + Σ_j KL(q(z_j) ‖ p(z_j)), nats per image.

    Chen et al. 2018 (1802.04942), equation 2, with the exact mixture of the N posteriors given. ``samples`` of each
    posterior (default: 2, or so many that there are 10,000 in all). For the prior N(0, I) (the default) "kl" is in
    closed form, and the sum of the three parts differs from it by noise. Other priors do not factorise: there is no
    "dimension_wise_kl", and "kl" is sampled. 0 ≤ mutual information ≤ ln N, which is "mutual_information_limit".
    Standard errors are those of the sampling, with these N posteriors for the whole; of 1 sample each there are none.
    """
    samples = samples or max(2, math.ceil(LEAST_SAMPLES / len(means)))
    prior = prior or StandardNormal(means.shape[1])
    posterior = _normal(means, log_vars)
    z = posterior.rsample(torch.randn(samples, *means.shape, generator=generator, dtype=torch.float64))
    log_qz, log_qz_per_latent, log_qz_given_x = aggregate_densities(z.numpy(), means, log_vars)
    log_pz = prior.log_prob(z).numpy()
    parts = {
        "mutual_information": log_qz_given_x - log_qz,
        "total_correlation": log_qz - log_qz_per_latent.sum(-1),
    }
    per_latent, kl = None, float((log_qz_given_x - log_pz).mean())
    if isinstance(prior, StandardNormal):
        per_latent = log_qz_per_latent - prior.log_prob_per_latent(z).numpy()
        parts["dimension_wise_kl"] = per_latent.sum(-1)
        kl = float(posterior.kl_to_standard_normal().sum(1).mean())
    return {
        "kl": kl,
        **{name: float(values.mean()) for name, values in parts.items()},
        **{f"{name}_standard_error": error for name, values in parts.items() if (error := _error(values)) is not None},
        "mutual_information_limit": math.log(len(means)),
        "aggregate_kl": float((log_qz - log_pz).mean()),
        **({} if per_latent is None else {"dimension_wise_kl_per_latent": per_latent.mean((0, 1)).tolist()}),
        "protocol": {
            "codes": len(means),
            "log_codes": math.log(len(means)),
            "samples_per_code": samples,
            "samples": samples * len(means),
            "aggregate": "exact mixture of the posteriors of all these codes",
            "standard_errors": "of the sampling, these codes being all there are",
        },
    }


def _normal(means: NDArray[Any], log_vars: NDArray[Any]) -> DiagonalNormal:
    given = as_finite(means), as_finite(log_vars, "log-variances")
    return DiagonalNormal(*map(torch.from_numpy, given))


def _error(values: NDArray[np.float64]) -> float | None:
    """Standard error of the mean of samples ``[S, N]`` of N distributions; None for one of each."""
    return math.sqrt(values.var(0, ddof=1).mean() / values.size) if len(values) > 1 else None


@torch.no_grad()
def measure(
    evaluation: Evaluation,
    *,
    most: Annotated[int, Ge(1)] = 10_000,
    samples: Annotated[int, Ge(1)] | None = None,
) -> dict[str, Any]:
    """``kl_decomposition`` of the training images' codes, whose mixture the aggregate posterior is.

    Of more than ``most`` images so many are chosen at random. Compare at equal numbers only: ln N bounds the mutual
    information.
    """
    total, random = len(evaluation.train), evaluation.generator("decomposition")
    codes = evaluation.train_codes(subsample(total, most, random))
    prior = evaluation.model.density()
    result = kl_decomposition(codes.mean, codes.log_var, random, prior=prior, samples=samples)
    result["protocol"] |= {"aggregate_posterior_of": "training images", "images": total}
    return result


def remark(result: Mapping[str, Any]) -> str:
    """How many codes were mixed, and the limit of the mutual information that follows."""
    count = result["protocol"]["codes"]
    return f"parts of the KL: of N = {count:,} training images, mutual information ≤ ln N = {math.log(count):.2f}"


METRIC = Metric(
    measure,
    question="latent space",
    needs=frozenset({"diagonal_posterior", "train"}),
    quantities=(
        Quantity("mutual_information", "index-code mutual information", "nats"),
        Quantity("total_correlation", "total correlation", "nats"),
        Quantity("dimension_wise_kl", "dimension-wise KL", "nats"),
    ),
    remark=remark,
    order=20,
    synonyms=("elbo_decomposition", "kl_decomposition", "tc"),
)
