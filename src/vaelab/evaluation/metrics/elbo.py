"""The evidence lower bound and its parts."""

import math
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float

from vaelab.data.images import Images
from vaelab.models.vae import CHUNK, VAE
from vaelab.system.device import GeneratorNoise, progress


def elbo(
    log_likelihood: Float[np.ndarray, "samples n"], kl: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], float | None]:
    """ELBO of each image, mean over samples of ln p(x|z) minus KL(q ‖ p), and the standard error of their mean
    (None for one image).

    Kingma & Welling 2014 (1312.6114), equation 3. float64, nats.
    """
    values = log_likelihood.astype(np.float64).mean(0) - kl.astype(np.float64)
    return values, standard_error(values)


def standard_error(values: Float[np.ndarray, " n"]) -> float | None:
    """Of the mean of n independent values; None for one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def bits_per_dim(nats: float, num_pixels: int, scale: float = 1.0) -> float:
    """−ln p in nats per image as bits per pixel value: nats / (D ln 2) + log₂ ``scale``.

    1 for the probability of discrete values; for the density of 8-bit values that noise has made continuous, the number
    that they were divided by (256 for (x + u)/256).
    """
    return nats / (num_pixels * math.log(2)) + math.log2(scale)


def log_likelihood_of(model: VAE, images: Images) -> tuple[str, bool]:
    """What ln p(x|z) of these images is, and whether it is a probability, which alone has bits per dimension."""
    wants_binary = getattr(model.likelihood, "wants_binary", False)
    parts = (images.pixels[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    if wants_binary and not all(np.isin(np.asarray(part), (0, 255)).all() for part in parts):
        return "cross entropy of grey pixels, not a likelihood (1907.06845)", False
    if wants_binary or getattr(model.likelihood, "is_discrete", False):
        return "probability of the pixel values, in nats per image", True
    return "density of the pixel values, normalised, in nats per image, with its constant", False


@torch.no_grad()
def measure(
    model: VAE, images: Images, generator: torch.Generator, *, samples: Annotated[int, Ge(1)] = 1
) -> dict[str, Any]:
    """ELBO with the likelihood's constant, error as the objective counts it, and KL; ``samples`` codes an image.

    "bits_per_dim" is that of −ELBO, and left out where the likelihood is no probability of discrete pixels.
    """
    log_likelihood = np.empty((samples, len(images)))
    error, kl = np.zeros(len(images)), np.empty((len(images), model.spec.latent_dim))
    noise = GeneratorNoise(generator, model.device)
    with progress("measuring the ELBO", len(images)) as bar:
        for start in range(0, len(images), CHUNK):
            part = slice(start, min(start + CHUNK, len(images)))
            batch = images.batch(part.start, part.stop, model.device)
            kl[part] = 0.0
            for i in range(samples):
                out = model(batch, noise)
                kl[part] += out.kl.double().cpu().numpy() / samples
                log_likelihood[i, part] = out.p_x.log_prob(batch.x)[0].double().cpu().numpy()
                error[part] += out.reconstruction[0].double().cpu().numpy() / samples
            bar.advance(part.stop - part.start)
    values, elbo_error = elbo(log_likelihood, kl.sum(1))
    kind, is_discrete = log_likelihood_of(model, images)
    return {
        "elbo": float(values.mean()),
        **({} if elbo_error is None else {"elbo_standard_error": elbo_error}),
        **({"bits_per_dim": bits_per_dim(-float(values.mean()), model.spec.num_pixels)} if is_discrete else {}),
        "reconstruction": float(error.mean()),
        "kl": float(kl.sum(1).mean()),
        "reconstruction_plus_kl": float(error.mean() + kl.sum(1).mean()),
        "kl_per_latent": [float(value) for value in kl.mean(0)],
        "protocol": {
            "samples": samples,
            "images": len(images),
            "kl": "closed form",
            "log_likelihood": kind,
        },
    }
