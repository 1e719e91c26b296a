"""The evidence lower bound and its parts."""

import math
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models import bounds
from vaelab.models.chunks import chunk_spans
from vaelab.models.vae import VAE
from vaelab.system.progress import progress
from vaelab.system.seeds import GeneratorNoise


def standard_error(values: Float[np.ndarray, " n"]) -> float | None:
    """Standard error of the mean of n independent values; None for one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def bits_per_dim(nats: float, num_pixels: int, scale: float = 1.0) -> float:
    """−ln p in nats per image as bits per pixel value: nats / (D ln 2) + log₂ ``scale``.

    1 for the probability of discrete values; for the density of 8-bit values that noise has made continuous, the number
    that they were divided by (256 for (x + u)/256).
    """
    return nats / (num_pixels * math.log(2)) + math.log2(scale)


def describe_likelihood(model: VAE, images: Images) -> tuple[str, bool]:
    """What ln p(x|z) of these images is, and whether it is a probability: only then there are bits per dimension."""
    likelihood, spans = model.likelihood, chunk_spans(len(images), images.image_shape)
    parts = (images.pixels[start:stop] for start, stop in spans)
    if likelihood.wants_binary and not all(np.isin(np.asarray(part), (0, 255)).all() for part in parts):
        return "cross entropy of grey pixels, not a likelihood (1907.06845)", False
    if likelihood.wants_binary or likelihood.is_discrete:
        return "probability of the pixel values, in nats per image", True
    return "density of the pixel values, normalised, in nats per image, with its constant", False


@torch.no_grad()
def measure(evaluation: Evaluation, *, samples: Annotated[int, Ge(1)] = 1) -> dict[str, Any]:
    """ELBO with the likelihood's constant, reconstruction as objectives count it, and KL; ``samples`` codes an image.

    "bits_per_dim" is that of −ELBO, and left out if the likelihood is not a probability of discrete pixels.
    "kl_per_latent" is left out if the KL is not a sum over latents.
    """
    model, images = evaluation.model, evaluation.images
    log_likelihood = torch.empty(samples, len(images), dtype=torch.float64)
    num_groups = model.spec.latent_dim if model.has_latent_kl else 1
    reconstruction, kl = np.zeros(len(images)), np.zeros((len(images), num_groups))
    noise, is_closed = GeneratorNoise(evaluation.generator("likelihood"), model.device), True
    with progress("measuring the ELBO", len(images)) as bar:
        for start, stop in chunk_spans(len(images), images.image_shape):
            batch, part = images.batch(start, stop, model.device), slice(start, stop)
            for i in range(samples):
                out = model(batch, noise)
                kl[part] += out.kl.double().cpu().numpy() / samples
                log_likelihood[i, part] = out.p_x.log_prob(batch.x)[0].double().cpu()
                reconstruction[part] += out.reconstruction[0].double().cpu().numpy() / samples
            is_closed = out.prior.closed_kl(out.q) is not None
            bar.advance(stop - start)
    values = bounds.elbo(log_likelihood, torch.from_numpy(kl.sum(1))).numpy()
    error, (kind, is_probability) = standard_error(values), describe_likelihood(model, images)
    return {
        "elbo": float(values.mean()),
        **({} if error is None else {"elbo_standard_error": error}),
        **({"bits_per_dim": bits_per_dim(-float(values.mean()), model.spec.num_pixels)} if is_probability else {}),
        "reconstruction": float(reconstruction.mean()),
        "kl": float(kl.sum(1).mean()),
        "reconstruction_plus_kl": float(reconstruction.mean() + kl.sum(1).mean()),
        **({"kl_per_latent": [float(value) for value in kl.mean(0)]} if model.has_latent_kl else {}),
        "protocol": {
            "samples": samples,
            "images": len(images),
            "kl": "closed form" if is_closed else "mean over the samples of ln q(z|x) − ln p(z)",
            "log_likelihood": kind,
        },
    }


METRIC = Metric(
    measure,
    question="fit",
    by_default=frozenset({"train", "evaluate", "compare"}),
    quantities=(
        Quantity("reconstruction", "reconstruction", "nats", "lower"),
        Quantity("kl", "KL", "nats"),
        Quantity("elbo", "ELBO", "nats", "higher", order=12),  # below β·KL, a fact of the run
    ),
    order=10,
    synonyms=("likelihood",),
)
