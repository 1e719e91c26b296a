"""Latent space as arrays: codes of a data set, grids over the prior, principal axes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.images import Images
from vaelab.model import CHUNK, VAE
from vaelab.runtime import progress


@dataclass(frozen=True)
class Codes:
    """Posteriors of a set of images."""

    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]


def encode_images(model: VAE, images: Images) -> Codes:
    """The posterior of every image, float32; memory for the codes and one chunk of images."""
    mean = np.empty((len(images), model.facts.latent_dim), np.float32)
    log_var = np.empty_like(mean)
    with progress("encoding", len(images)) as bar:
        for start in range(0, len(images), CHUNK):
            stop = min(start + CHUNK, len(images))
            posterior = model.encode(images.pixels[start:stop])
            mean[start:stop], log_var[start:stop] = posterior.mean.numpy(), posterior.log_var.numpy()
            bar.advance(stop - start)
    return Codes(mean, log_var)


def prior_quantiles(count: int, coverage: float = 0.98) -> Float[np.ndarray, " count"]:
    """Values of one latent that cut ``coverage`` of N(0, 1) into pieces of equal probability."""
    probabilities = torch.linspace(0.5 - coverage / 2, 0.5 + coverage / 2, count, dtype=torch.float64)
    quantiles: NDArray[np.float32] = torch.special.ndtri(probabilities).float().numpy()
    return quantiles


def prior_grid(count: int) -> Float[np.ndarray, "points 2"]:
    """Two-latent codes over the prior's quantiles, row by row from the top left: z₂ falls, z₁ rises."""
    axis = prior_quantiles(count)
    return np.stack(np.meshgrid(axis, axis[::-1]), axis=-1).reshape(-1, 2)


def principal_axes(
    codes: Float[np.ndarray, "n latent"], count: int = 2
) -> tuple[Float[np.ndarray, "n count"], NDArray[np.float64]]:
    """Codes on their ``count`` axes of largest variance, and the share of all variance that each explains."""
    centred = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(codes))
    order = np.argsort(variances)[::-1][:count]
    total = variances.sum()
    share = variances[order] / total if total > 0 else np.zeros(len(order))
    return (centred @ axes[:, order]).astype(np.float32), share
