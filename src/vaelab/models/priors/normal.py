"""The standard normal prior."""

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vaelab.models import priors
from vaelab.models.posteriors import Draw, NormalNoise, PosteriorDistribution
from vaelab.models.spec import Spec


class StandardNormal(priors.Density):
    """N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    def log_prob_per_latent(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples latent"]:
        """ln N(z_j; 0, 1) of each latent, nats."""
        return -0.5 * (z**2 + math.log(2 * math.pi))

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln N(z; 0, I), nats."""
        return self.log_prob_per_latent(z).sum(-1)

    def sample(self, count: int, noise: NormalNoise) -> Float[Tensor, "count latent"]:
        """The noise itself."""
        return noise.normal(count, self.latent_dim)

    def kl(self, q: PosteriorDistribution, draw: Draw) -> Float[Tensor, "batch group"]:
        """In closed form where the posterior has one, one group per latent for a diagonal posterior."""
        closed = q.kl_to_standard_normal()
        return super().kl(q, draw) if closed is None else closed


class Prior(priors.Prior):
    """p(z) = N(0, I), without parameters (Kingma & Welling 2014, 1312.6114)."""

    provides: ClassVar = frozenset({"standard_normal_prior"})

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.density = StandardNormal(spec.latent_dim)

    def forward(self, encode: priors.EncodeBatch) -> StandardNormal:
        """N(0, I)."""
        return self.density
