"""Decomposition of the KL term into mutual information, total correlation and dimension-wise KL."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import PositiveInt

from vaelab.data.tensors import subsample
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.codes import as_finite
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density
from vaelab.models.priors.normal import StandardNormal
from vaelab.system.progress import progress

MIN_SAMPLES = 10_000
"""Total number of samples, if the number per posterior is not given."""
BLOCK = 1 << 18
"""Pairs of sample and component at a time: 2 MB, which fits a processor's cache."""

Densities = tuple[
    Float[np.ndarray, "*samples n"], Float[np.ndarray, "*samples n latent"], Float[np.ndarray, "*samples n"]
]


def aggregate_densities(
    z: Float[np.ndarray, "*samples n latent"],
    means: Float[np.ndarray, "n latent"],
    log_vars: Float[np.ndarray, "n latent"],
) -> Densities:
    """Return ln q(z), ln q(z_j) of every latent, and ln q(z|xₙ) at samples ``z[…, n, :]`` of q(z|xₙ); nats, float64.

    q(z) is the exact mixture of all N posteriors: ln q(z) = ln Σₙ exp Σ_j ln q(z_j|xₙ) − ln N (Chen et al. 2018,
    1802.04942, section 2). The bits do not depend on the number of threads. Time grows with samples × N × latents;
    memory beyond the results does not.
    """
    points = z.astype(np.float64)
    given = _normal(means, log_vars).log_prob(torch.from_numpy(points))
    points = points.reshape(-1, z.shape[-1])
    joint, single = np.empty(len(points)), np.empty_like(points)
    log_mixture = _make_log_mixture(means, log_vars)
    step = max(1, BLOCK // len(means))
    parts = [slice(start, start + step) for start in range(0, len(points), step)]
    with (
        progress("densities of the aggregate posterior", len(points)) as bar,
        ThreadPoolExecutor(torch.get_num_threads()) as threads,
    ):
        found = threads.map(lambda part: log_mixture(points[part]), parts)
        for part, (of_code, of_latents) in zip(parts, found, strict=True):
            joint[part], single[part] = of_code, of_latents
            bar.advance(len(of_code))
    return joint.reshape(given.shape), single.reshape(z.shape), given.numpy()


def _make_log_mixture(
    means: NDArray[Any], log_vars: NDArray[Any]
) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return codes → log-densities of the codes and of each latent in the equally weighted mixture of normals.

    Computed from the differences z − μ: expanded squares, which matrix products need, lose all digits where a variance
    is tiny.
    """
    log_vars = log_vars.astype(np.float64)
    centres = np.ascontiguousarray(means.T, np.float64)
    scales = np.ascontiguousarray(math.sqrt(0.5) * np.exp(-0.5 * log_vars).T)
    heights = np.ascontiguousarray(-0.5 * (log_vars + math.log(2 * math.pi)).T)

    def log_mixture(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        joint, log_prob = np.zeros((len(z), len(means))), np.empty((len(z), len(means)))
        single = np.empty_like(z)
        for j in range(z.shape[1]):
            np.subtract(z[:, j, None], centres[j], out=log_prob)
            log_prob *= scales[j]
            log_prob *= log_prob
            np.subtract(heights[j], log_prob, out=log_prob)
            joint += log_prob
            single[:, j] = _log_sum_exp_(log_prob)
        return _log_sum_exp_(joint) - math.log(len(means)), single - math.log(len(means))

    return log_mixture


def _log_sum_exp_(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln Σ exp of each row; overwrites ``rows``, so that a block stays in the cache (SciPy's makes copies)."""
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
) -> Result:
    """Return the KL as I_q(n; z) + KL(q(z) ‖ Π_j q(z_j)) + Σ_j KL(q(z_j) ‖ p(z_j)), in nats per image.

    Chen et al. 2018 (1802.04942), equation 2, with the exact mixture of the N posteriors. ``samples``: number per
    posterior (default: at least 2, and at least 10,000 in total). For the prior N(0, I), the default, "kl" is in closed
    form and differs from the sum of the parts by noise. Other priors do not factorise: there is no "dimension_wise_kl",
    and "kl" is sampled. 0 ≤ mutual information ≤ ln N, the "mutual_information_limit". Standard errors are those of the
    sampling, given these N posteriors; one sample of each has none.
    """
    samples = samples or max(2, math.ceil(MIN_SAMPLES / len(means)))
    prior = prior or StandardNormal(means.shape[1])
    posterior = _normal(means, log_vars)
    z = posterior.rsample(torch.randn(samples, *means.shape, generator=generator, dtype=torch.float64))
    log_qz, log_qz_per_latent, log_qz_given_x = aggregate_densities(z.numpy(), means, log_vars)
    log_pz = prior.log_prob(z).numpy()
    parts = {
        "mutual_information": log_qz_given_x - log_qz,
        "total_correlation": log_qz - log_qz_per_latent.sum(-1),
    }
    kl, per_latent = float((log_qz_given_x - log_pz).mean()), {}
    if isinstance(prior, StandardNormal):
        dimension_wise = log_qz_per_latent - prior.log_prob_per_latent(z).numpy()
        parts["dimension_wise_kl"] = dimension_wise.sum(-1)
        kl = float(posterior.kl_to_standard_normal().sum(1).mean())
        per_latent = {"dimension_wise_kl_per_latent": dimension_wise.mean((0, 1)).tolist()}
    errors = {
        f"{name}_standard_error": math.sqrt(values.var(0, ddof=1).mean() / values.size)
        for name, values in parts.items()
        if samples > 1
    }
    return {
        "kl": kl,
        **{name: float(values.mean()) for name, values in parts.items()},
        **errors,
        "mutual_information_limit": math.log(len(means)),
        "aggregate_kl": float((log_qz - log_pz).mean()),
        **per_latent,
        "protocol": {
            "codes": len(means),
            "log_codes": math.log(len(means)),
            "samples_per_code": samples,
            "samples": samples * len(means),
            "aggregate": "exact mixture of the posteriors of all these codes",
            "standard_errors": "of the sampling, given these codes",
        },
    }


def _normal(means: NDArray[Any], log_vars: NDArray[Any]) -> DiagonalNormal:
    given = as_finite(means), as_finite(log_vars, "log-variances")
    return DiagonalNormal(*map(torch.from_numpy, given))


@torch.no_grad()
def measure(evaluation: Evaluation, *, max_images: PositiveInt = 10_000, samples: PositiveInt | None = None) -> Result:
    """``kl_decomposition`` of the codes of at most ``max_images`` random training images.

    Compare at equal numbers of images only: ln N bounds the mutual information.
    """
    total, random = len(evaluation.train), evaluation.generator("decomposition")
    codes = evaluation.train_codes(subsample(total, max_images, random))
    prior = evaluation.model.density()
    result = kl_decomposition(codes.mean, codes.log_var, random, prior=prior, samples=samples)
    result["protocol"] |= {"aggregate_posterior_of": "training images", "images": total}
    return result


def remark(result: Mapping[str, Any]) -> str:
    """Return the number of codes in the mixture, and the limit of the mutual information that follows."""
    count = result["protocol"]["codes"]
    return f"parts of the KL: of N = {count:,} training images, mutual information ≤ ln N = {math.log(count):.2f}"


METRIC = Metric(
    measure,
    question="latent space",
    needs=frozenset({"diagonal_posterior", "train_images"}),
    quantities=(
        Quantity("mutual_information", "index-code mutual information", "nats"),
        Quantity("total_correlation", "total correlation", "nats"),
        Quantity("dimension_wise_kl", "dimension-wise KL", "nats"),
    ),
    remark=remark,
    order=20,
    synonyms=("elbo_decomposition", "kl_decomposition", "tc"),
)
