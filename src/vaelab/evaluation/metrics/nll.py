"""The negative log-likelihood by importance sampling: tighter than the ELBO, and as many decoded images dearer."""

import math
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.images import Images
from vaelab.evaluation.metrics.likelihood import bits_per_dim, log_likelihood_of, standard_error
from vaelab.models.distributions import DiagonalNormal
from vaelab.models.vae import CHUNK, VAE
from vaelab.system.device import disable_tf32, progress

SYNONYMS = ("iwae", "ll", "log_likelihood", "negative_log_likelihood", "marginal_likelihood")
"""Other words for it that ``--metrics`` takes."""

BY_DEFAULT = False

BLOCK_BYTES = 1 << 22
"""Of decoded images in float32 at a time: few enough to stay in a processor's cache."""


def iwae_bound(log_weights: Float[np.ndarray, "samples n"]) -> Float[np.ndarray, " n"]:
    """ln 1/K Σₖ wₖ of each image, from ln wₖ = ln p(x|zₖ) + ln p(zₖ) − ln q(zₖ|x), zₖ ~ q(z|x); in expectation at most
    ln p(x), which it approaches as the number of samples K grows.

    Burda et al. 2016 (1509.00519), equation 8. float64, nats. A weight of 0 (−inf) counts as such; −inf where all are.
    """
    bounds: NDArray[np.float64] = torch.logsumexp(torch.from_numpy(log_weights.astype(np.float64)), 0).numpy()
    return bounds - math.log(len(log_weights))


def log_weights(
    model: VAE, x: Float[Tensor, "batch channel height width"], epsilon: Float[Tensor, "samples batch latent"]
) -> Float[Tensor, "samples batch"]:
    """ln p(x|z) + ln p(z) − ln q(z|x) at z = μ(x) + σ(x)·ε, nats, float64 (Burda et al. 2016, 1509.00519, equation 8).

    Networks and likelihood calculate in the type of ``x``, everything else in float64.
    """
    posterior = model.posterior(x)
    z = posterior.rsample(epsilon)
    repeated = x.expand(len(z), *x.shape).flatten(0, 1)  # of a single image a view
    log_likelihood = model.pixels(z.flatten(0, 1)).log_prob(repeated).double().view(z.shape[:2])
    proposal = DiagonalNormal(posterior.mean.double(), posterior.log_var.double())
    prior = DiagonalNormal(torch.zeros_like(proposal.mean), torch.zeros_like(proposal.mean))
    return log_likelihood + prior.log_prob(z.double()) - proposal.log_prob(z.double())


@torch.no_grad()
@disable_tf32()
def measure(
    model: VAE, images: Images, generator: torch.Generator, *, samples: Annotated[int, Ge(1)] = 5000
) -> dict[str, Any]:
    """−ln 1/K Σₖ p(x|zₖ) p(zₖ) / q(zₖ|x), zₖ ~ q(z|x), K = ``samples``, mean over images: in expectation at least
    −ln p(x), and nearer to it than −ELBO.

    "effective_samples": of K, the median over images of (Σ w)² / Σ w². Where it is small, few codes carry the sum and
    a larger K would find a lower value. "bits_per_dim" is left out where the likelihood is no probability of discrete
    pixels. Memory does not grow with K or the number of images.
    """
    at_once = max(1, min(CHUNK, BLOCK_BYTES // (4 * model.spec.num_pixels)))
    num_images, num_samples = max(1, at_once // samples), min(at_once, samples)
    totals = np.full((2, len(images)), -np.inf)  # ln Σ w and ln Σ w² of each image
    with progress("sampling the likelihood", len(images)) as bar:
        for start in range(0, len(images), num_images):
            x = images.floats(start, min(start + num_images, len(images)), model.device)
            own = totals[:, start : start + len(x)]
            for first in range(0, samples, num_samples):
                shape = min(num_samples, samples - first), len(x), model.spec.latent_dim
                weights = log_weights(model, x, torch.randn(shape, generator=generator).to(model.device)).cpu().numpy()
                sums = np.stack([iwae_bound(weights), iwae_bound(2 * weights)]) + math.log(len(weights))
                own[:] = np.logaddexp(own, sums)
            bar.advance(len(x))
    values = math.log(samples) - totals[0]
    nll, error = float(values.mean()), standard_error(values)
    kind, is_discrete = log_likelihood_of(model, images)
    return {
        "nll": nll,
        **({} if error is None else {"nll_standard_error": error}),
        **({"bits_per_dim": bits_per_dim(nll, model.spec.num_pixels)} if is_discrete else {}),
        "effective_samples": float(np.median(np.exp(2 * totals[0] - totals[1]))),
        "protocol": {
            "samples": samples,
            "images": len(images),
            "estimator": "importance sampling from the posterior (IWAE), an upper bound in expectation",
            "standard_error": "over images",
            "effective_samples": "(Σ w)² / Σ w² of an image, the median",
            "log_likelihood": kind,
        },
    }
