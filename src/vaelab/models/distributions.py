"""Distributions of latents: posterior and prior."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOG_VAR_RANGE = (-30.0, 20.0)
"""Posterior standard deviations between 3·10⁻⁷ and 2·10⁴; outside, exp() would soon overflow in float32."""


def guard_log_var(log_var: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``log_var`` held within LOG_VAR_RANGE: unchanged inside; outside the gradient still passes."""
    return log_var.clamp(*LOG_VAR_RANGE).detach() + (log_var - log_var.detach())


@dataclass(frozen=True)
class DiagonalNormal:
    """A normal distribution over latents with diagonal covariance: a posterior q(z|x), or a prior."""

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

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch latent"]:
        """One sample for each distribution, without gradients."""
        epsilon = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.rsample(epsilon).detach()

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln N(z; μ, σ²) summed over latents, in nats."""
        squares = (z - self.mean) ** 2 * torch.exp(-self.log_var)
        return -0.5 * (squares + self.log_var + math.log(2 * math.pi)).sum(-1)

    def kl(self, prior: "DiagonalNormal | None" = None) -> Float[Tensor, "*batch latent"]:
        """KL(self ‖ prior) of each latent in nats; without a prior, to N(0, I).

        ½ [(μ − m)² e⁻ˢ + e^{λ−s} − 1 − (λ − s)] with λ, s the log-variances of the two (1312.6114, appendix B, for
        m = s = 0). ``expm1`` keeps it exact where the two nearly agree.
        """
        if prior is None:
            return 0.5 * (self.mean**2 + torch.expm1(self.log_var) - self.log_var)
        log_ratio = self.log_var - prior.log_var
        distance = (self.mean - prior.mean) ** 2 * torch.exp(-prior.log_var)
        return 0.5 * (distance + torch.expm1(log_ratio) - log_ratio)
