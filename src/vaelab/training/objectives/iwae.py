"""The importance-weighted autoencoder: a tighter bound than the ELBO, from several samples of each posterior."""

import math
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.models.distributions import DiagonalNormal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE

KL_WEIGHT = 1.0


def iwae_bound(log_weights: Float[Tensor, "sample batch"]) -> Float[Tensor, " batch"]:
    """ln (1/K) Σ_k w_k of each image, nats (Burda et al. 2016, 1509.00519); a weight of 0, ln w = −∞, only adds 0."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


def effective_samples(log_weights: Float[Tensor, "sample batch"]) -> Float[Tensor, " batch"]:
    """(Σ_k w_k)² / Σ_k w_k² of each image: K where all weights agree, 1 where a single one decides."""
    return 1 / torch.softmax(log_weights, 0).square().sum(0)


class Objective(nn.Module):
    """−ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), K samples of each posterior (Burda et al. 2016, 1509.00519).

    As everywhere the likelihood's constant is left out. K = ``num_samples``: 1 is the ELBO with a sampled KL. Every
    image is decoded K times, so the decoder's time and memory grow K-fold.
    """

    def __init__(self, spec: Spec, *, num_samples: Annotated[int, Ge(1)] = 5) -> None:
        super().__init__()
        self.num_samples = num_samples

    def forward(
        self, vae: VAE, x: Float[Tensor, "batch channel height width"], step: Int[Tensor, ""]
    ) -> dict[str, Tensor]:
        """Loss and terms, nats per image.

        ``reconstruction`` and ``kl`` are those of one sample of each posterior and, unlike in other objectives, do not
        add up to the loss. ``effective_samples``, of K: near 1 the bound rests on a single sample of each image.
        """
        passed = vae(x)
        z, errors = passed.z[:, None], passed.reconstruction[:, None]
        posterior = DiagonalNormal(passed.posterior.mean[:, None], passed.posterior.log_var[:, None])
        if self.num_samples > 1:
            assert vae.noise is not None
            more = posterior.rsample(vae.noise.normal(len(x), self.num_samples - 1, z.shape[-1]))
            images = x[:, None].expand(-1, self.num_samples - 1, -1, -1, -1).flatten(0, 1)
            more_errors = vae.pixels(more.flatten(0, 1)).reconstruction_loss(images).reshape(len(x), -1)
            z, errors = torch.cat([z, more], 1), torch.cat([errors, more_errors], 1)
        prior = DiagonalNormal(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.log_var))
        log_weights = (prior.log_prob(z) - posterior.log_prob(z) - errors).T
        return {
            "loss": -iwae_bound(log_weights).mean(),
            "reconstruction": passed.reconstruction.mean(),
            "kl": passed.kl.sum(1).mean(),
            "effective_samples": effective_samples(log_weights.detach()).mean(),
        }
