"""The standard normal prior."""

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vaelab.models import priors
from vaelab.models.posteriors import PosteriorDistribution
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


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

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Return the noise itself."""
        return noise.normal(count, self.latent_dim)

    def closed_kl(self, q: PosteriorDistribution) -> Float[Tensor, "batch group"] | None:
        """KL(q ‖ N(0, I)), nats; one group per latent for a diagonal posterior."""
        return q.kl_to_standard_normal()


class Prior(priors.Prior):
    """p(z) = N(0, I), without parameters (Kingma & Welling 2014, 1312.6114)."""

    provides: ClassVar = frozenset({"standard_normal_prior"})

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.density = StandardNormal(spec.latent_dim)

    def forward(self, model: priors.InferenceModel) -> StandardNormal:
        """Return N(0, I)."""
        return self.density
