"""A normal posterior with diagonal covariance."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models import posteriors
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.posteriors import Draw
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise

LOG_VAR_RANGE = (-30.0, 20.0)
"""Standard deviations between 3·10⁻⁷ and 2·10⁴; beyond them, exp() soon overflows in float32."""


def draw_normal(noise: Noise, samples: int, batch: int, latent_dim: int) -> Float[Tensor, "sample batch latent"]:
    """Standard normal noise for ``samples`` codes of each image; the first is the same for any number of samples."""
    first = noise.normal(batch, latent_dim)[None]
    if samples == 1:
        return first
    return torch.cat([first, noise.normal(batch, samples - 1, latent_dim).transpose(0, 1)])


@dataclass(frozen=True)
class DiagonalNormal(posteriors.PosteriorDistribution):
    """N(μ, diag σ²) over latents."""

    mean: Float[Tensor, "*batch latent"]
    log_var: Float[Tensor, "*batch latent"]
    """Natural logarithm of the variance."""

    @property
    def std(self) -> Float[Tensor, "*batch latent"]:
        """Standard deviation."""
        return torch.exp(0.5 * self.log_var)

    def rsample(self, epsilon: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples latent"]:
        """Reparameterised sample μ + σ·ε from standard normal noise (Kingma & Welling 2014, 1312.6114, section 2.4)."""
        return self.mean + self.std * epsilon

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """Return ``samples`` reparameterised samples per image."""
        return Draw(self.rsample(draw_normal(noise, samples, *self.mean.shape)))

    def log_prob_per_latent(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*broadcast latent"]:
        """ln N(z_j; μ_j, σ_j²) of each latent in nats, the axes before the latents broadcast."""
        squares = (z - self.mean) ** 2 * torch.exp(-self.log_var)
        return -0.5 * (squares + self.log_var + math.log(2 * math.pi))

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch latent"]:
        """Return one sample of each distribution, without gradients."""
        epsilon = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.rsample(epsilon).detach()

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "..."]:
        """ln N(z; μ, σ²) summed over latents in nats, the axes before the latents broadcast."""
        return self.log_prob_per_latent(z).sum(-1)

    def to(self, device: torch.device) -> "DiagonalNormal":
        """Return the same distribution on ``device``."""
        return DiagonalNormal(self.mean.to(device), self.log_var.to(device))

    def kl_to_standard_normal(self) -> Float[Tensor, "*batch latent"]:
        """KL to N(0, I) of each latent, nats: ½ (μ² + e^λ − 1 − λ) (1312.6114, appendix B).

        ``expm1`` keeps it exact near 0.
        """
        return 0.5 * (self.mean**2 + torch.expm1(self.log_var) - self.log_var)

    def kl(self, other: "DiagonalNormal") -> Float[Tensor, "*batch latent"]:
        """KL(self ‖ other) of each latent, nats: ½ [(μ − m)² e⁻ˢ + e^{λ−s} − 1 − (λ − s)], λ, s the log-variances."""
        log_ratio = self.log_var - other.log_var
        distance = (self.mean - other.mean) ** 2 * torch.exp(-other.log_var)
        return 0.5 * (distance + torch.expm1(log_ratio) - log_ratio)


class Posterior(posteriors.Posterior):
    """q(z|x) = N(μ(x), diag σ²(x)) (Kingma & Welling 2014, 1312.6114); the encoder returns μ and ln σ²."""

    provides: ClassVar = frozenset({"continuous_posterior", "diagonal_posterior"})

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.num_parameters = 2 * spec.latent_dim

    def forward(self, h: Float[Tensor, "batch parameter"]) -> DiagonalNormal:
        """Return the distribution whose mean and log-variance are the two halves of ``h``."""
        mean, log_var = h.chunk(2, dim=1)
        return DiagonalNormal(mean, clamp_straight_through(log_var, *LOG_VAR_RANGE))
