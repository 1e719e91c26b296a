"""Latent space as arrays: codes of a data set, grids over the prior, principal axes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.distributions import DiagonalNormal
from vaelab.images import Images
from vaelab.model import CHUNK, VAE
from vaelab.runtime import progress


@dataclass(frozen=True)
class Codes:
    """Posteriors of a set of images."""

    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]

    @property
    def kl(self) -> Float[np.ndarray, " latent"]:
        """Mean KL to the prior of each latent, nats per image."""
        posterior = DiagonalNormal(torch.from_numpy(self.mean).double(), torch.from_numpy(self.log_var).double())
        means: NDArray[np.float64] = posterior.kl().mean(0).numpy()
        return means


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


def traverse(
    code: Float[np.ndarray, " latent"], latents: Int[np.ndarray, " rows"], values: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "rows columns latent"]:
    """``code`` with one latent after the other set to each of ``values``, all others as they are."""
    codes = np.tile(code, (len(latents), len(values), 1))
    codes[np.arange(len(latents)), :, latents] = values
    return codes


def interpolate(
    a: Float[np.ndarray, "pairs latent"], b: Float[np.ndarray, "pairs latent"], count: int
) -> Float[np.ndarray, "pairs count latent"]:
    """``count`` codes on the straight line from ``a`` to ``b``, both ends included."""
    share = np.linspace(0, 1, count, dtype=np.float32)[None, :, None]
    line: NDArray[Any] = a[:, None] * (1 - share) + b[:, None] * share
    return line


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
