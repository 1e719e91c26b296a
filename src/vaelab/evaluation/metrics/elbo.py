"""The evidence lower bound and its parts."""

import math

import numpy as np
import torch
from jaxtyping import Float
from pydantic import PositiveInt

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models import bounds
from vaelab.models.chunks import chunk_spans
from vaelab.system.noise import GeneratorNoise
from vaelab.system.progress import progress


def bits_per_dim(nats: float, num_pixels: int, scale: float = 1.0) -> float:
    """Convert −ln p in nats per image to bits per pixel value: nats / (D ln 2) + log₂ ``scale``.

    ``scale`` is 1 for the probability of discrete values. For the density of 8-bit values made continuous by noise, it
    is the number that they were divided by (256 for (x + u)/256).
    """
    return nats / (num_pixels * math.log(2)) + math.log2(scale)


def summarise_bound(name: str, values: Float[np.ndarray, " n"], evaluation: Evaluation) -> tuple[Result, str]:
    """Return the mean of a bound over images with its standard error and bits per dimension, and the likelihood's kind.

    ``values`` bound −ln p(x) of each image. A single value has no standard error. Bits per dimension are left out
    unless the likelihood is a probability of discrete pixels.
    """
    likelihood, images, nats = evaluation.model.likelihood, evaluation.images, float(values.mean())
    bits = {"bits_per_dim": bits_per_dim(nats, evaluation.model.spec.num_pixels)}
    if likelihood.wants_binary and not _is_binary(evaluation):
        kind, bits = "cross-entropy of grey pixels, not a likelihood (1907.06845)", {}
    elif likelihood.wants_binary or likelihood.is_discrete:
        kind = "probability of the pixel values, in nats per image"
    else:
        kind, bits = "density of the pixel values, normalised, in nats per image, with its constant", {}
    error = {f"{name}_standard_error": float(values.std(ddof=1)) / math.sqrt(len(values))} if len(images) > 1 else {}
    return {name: nats, **error, **bits}, kind


def _is_binary(evaluation: Evaluation) -> bool:
    pixels, spans = evaluation.images.pixels, chunk_spans(len(evaluation.images), evaluation.images.image_shape)
    return all(np.isin(np.asarray(pixels[start:stop]), (0, 255)).all() for start, stop in spans)


@torch.no_grad()
def measure(evaluation: Evaluation, *, samples: PositiveInt = 1) -> Result:
    """ELBO with the likelihood's constant, reconstruction as objectives count it, and KL, from ``samples`` codes each.

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
                kl[part] += out.kl.cpu().double().numpy() / samples
                log_likelihood[i, part] = out.p_x.log_prob(batch.x)[0].cpu().double()
                reconstruction[part] += out.reconstruction[0].cpu().double().numpy() / samples
            is_closed = out.prior.closed_kl(out.q) is not None
            bar.advance(stop - start)
    negative, kind = summarise_bound(
        "elbo", -bounds.elbo(log_likelihood, torch.from_numpy(kl.sum(1))).numpy(), evaluation
    )
    return {
        **negative,
        "elbo": -negative["elbo"],
        "reconstruction": float(reconstruction.mean()),
        "kl": float(kl.sum(1).mean()),
        "reconstruction_plus_kl": float(reconstruction.mean() + kl.sum(1).mean()),
        **({"kl_per_latent": kl.mean(0).tolist()} if model.has_latent_kl else {}),
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
        Quantity("reconstruction", "reconstruction", "nats", "lower", decides=True),
        Quantity("kl", "KL", "nats", decides=True),
        Quantity("elbo", "ELBO", "nats", "higher", order=12, decides=True),  # below β·KL, a fact of the run
    ),
    order=10,
    synonyms=("likelihood",),
)
