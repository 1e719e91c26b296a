"""Negative log-likelihood by importance sampling: tighter than the ELBO, but expensive."""

import math

import numpy as np
import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.evaluation.metrics.elbo import summarise_bound
from vaelab.models.bounds import iwae_bound, log_weights
from vaelab.models.chunks import chunk_length
from vaelab.models.conditions import condition_columns
from vaelab.models.priors import Density
from vaelab.models.vae import VAE
from vaelab.system.device import disable_tf32, widest_float
from vaelab.system.noise import GeneratorNoise, Noise
from vaelab.system.progress import progress

BLOCK_BYTES = 1 << 22
"""Decoded images in float32 at a time, few enough for the processor's cache."""


def sample_log_weights(
    model: VAE, prior: Density, batch: Batch, noise: Noise, samples: int
) -> Float[Tensor, "samples batch"]:
    """Return ln p(x|z) + ln p(z) − ln q(z|x) at samples z of q(z|x), in nats, float64 (1509.00519, equation 8).

    The networks and the likelihood compute in the dtype of ``batch.x``, the rest in float64 if the device has it.
    """
    condition = condition_columns(model.spec, batch.labels, batch.attributes)
    wide = widest_float(batch.x.device)
    q = model.encode_batch(batch.x, condition, wide)
    draw = q.draw(noise, samples)
    log_likelihood = model.decode_batch(draw.z.to(batch.x.dtype), condition).log_prob(batch.x).to(wide)
    return log_weights(log_likelihood, prior.log_prob(draw.z), q.log_prob_of(draw))


@torch.no_grad()
@disable_tf32()
def measure(evaluation: Evaluation, *, samples: PositiveInt = 5000) -> Result:
    """−ln 1/K Σₖ p(x|zₖ) p(zₖ) / q(zₖ|x) with zₖ ~ q(z|x) and K = ``samples``, mean over images.

    In expectation it is at least −ln p(x), and closer to it than −ELBO. "effective_samples" is the median over images
    of (Σ w)² / Σ w². If it is small, few codes carry the sum, and a larger K would give a lower value. Memory does not
    grow with K or the number of images.
    """
    model, prior, images = evaluation.model, evaluation.model.density(), evaluation.images
    at_once = max(1, min(chunk_length(images.image_shape), BLOCK_BYTES // (4 * model.spec.num_pixels)))
    num_images, num_samples = max(1, at_once // samples), min(at_once, samples)
    totals = np.full((2, len(images)), -np.inf)  # ln Σ w and ln Σ w² of each image
    noise = GeneratorNoise(evaluation.generator("nll"), model.device)
    with progress("sampling the likelihood", len(images)) as bar:
        for start in range(0, len(images), num_images):
            batch = images.batch(start, start + num_images, model.device)
            own = totals[:, start : start + len(batch.x)]
            for first in range(0, samples, num_samples):
                weights = sample_log_weights(model, prior, batch, noise, min(num_samples, samples - first)).cpu()
                sums = torch.stack([iwae_bound(weights), iwae_bound(2 * weights)]).numpy() + math.log(len(weights))
                own[:] = np.logaddexp(own, sums)
            bar.advance(len(batch.x))
    found, kind = summarise_bound("nll", math.log(samples) - totals[0], evaluation)
    return {
        **found,
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


METRIC = Metric(
    measure,
    question="fit",
    by_default=frozenset(),
    quantities=(Quantity("nll", "−ln p(x)", "nats", "lower", decides=True),),
    order=70,
    synonyms=("iwae", "ll", "log_likelihood", "negative_log_likelihood", "marginal_likelihood"),
)
