"""The evidence lower bound and its parts."""

import math
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float

from vaelab.images import Images
from vaelab.model import CHUNK, VAE
from vaelab.runtime import progress


def elbo(
    log_likelihood: Float[np.ndarray, "samples n"], kl: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], float | None]:
    """ELBO of each image, mean over samples of ln p(x|z) minus KL(q ‖ p), and the standard error of their mean
    (None for one image).

    Kingma & Welling 2014 (1312.6114), equation 3. float64, nats.
    """
    values = log_likelihood.astype(np.float64).mean(0) - kl.astype(np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return values, error


def bits_per_dim(nats: float, num_pixels: int) -> float:
    """−ln p in nats per image as bits per pixel value, nats / (D ln 2)."""
    return nats / (num_pixels * math.log(2))


def _what_it_is(model: VAE, images: Images) -> str:
    first = np.asarray(images.pixels[:CHUNK])
    if getattr(model.likelihood, "wants_binary", False) and not np.isin(first, (0, 255)).all():
        return "cross entropy of grey pixels, not a likelihood (1907.06845)"
    return "normalised, in nats per image, with its constant"


@torch.no_grad()
def measure(
    model: VAE, images: Images, generator: torch.Generator, *, samples: Annotated[int, Ge(1)] = 1
) -> dict[str, Any]:
    """ELBO with the likelihood's constant, error as the objective counts it, and KL; ``samples`` codes an image."""
    log_likelihood = np.empty((samples, len(images)))
    error, kl = np.zeros(len(images)), np.empty((len(images), model.facts.latent_dim))
    with progress("measuring the ELBO", len(images)) as bar:
        for start in range(0, len(images), CHUNK):
            part = slice(start, min(start + CHUNK, len(images)))
            x = images.floats(part.start, part.stop).to(model.device)
            posterior = model.posterior(x)
            kl[part] = posterior.kl().double().cpu().numpy()
            for i in range(samples):
                pixels = model.pixels(posterior.sample(generator))
                log_likelihood[i, part] = pixels.log_prob(x).double().cpu().numpy()
                error[part] += pixels.error(x).double().cpu().numpy() / samples
            bar.advance(part.stop - part.start)
    values, standard_error = elbo(log_likelihood, kl.sum(1))
    return {
        "elbo": float(values.mean()),
        "elbo_standard_error": standard_error,
        "reconstruction": float(error.mean()),
        "kl": float(kl.sum(1).mean()),
        "reconstruction_plus_kl": float(error.mean() + kl.sum(1).mean()),
        "kl_per_latent": [float(value) for value in kl.mean(0)],
        "protocol": {
            "samples": samples,
            "images": len(images),
            "kl": "closed form",
            "log_likelihood": _what_it_is(model, images),
        },
    }
