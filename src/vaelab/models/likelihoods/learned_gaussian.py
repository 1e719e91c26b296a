"""Normal pixels with one learned standard deviation (σ-VAE) and means from a sigmoid."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models import likelihoods
from vaelab.models.spec import Spec

MIN_LOG_SIGMA = -6.0
"""Smallest ln σ: σ = 0.0025 for pixels in [0, 1], less than one of 256 grey levels. Without a minimum, perfect
reconstructions would make σ → 0 and ln p → ∞."""


def soft_clip(log_sigma: Float[Tensor, "*shape"], minimum: float = MIN_LOG_SIGMA) -> Float[Tensor, "*shape"]:
    """Return ``minimum`` + softplus(ln σ − ``minimum``), which is nearly ln σ far above ``minimum`` (2006.13202)."""
    return minimum + F.softplus(log_sigma - minimum)


@dataclass(frozen=True)
class FreeNormalPixels:
    """Independent normal pixels around ``mean`` with one standard deviation σ, which is not a constant."""

    mean: Float[Tensor, "*batch channel height width"]
    log_sigma: Float[Tensor, ""]

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """SSE/(2σ²) + D ln σ, nats per image; negative for a small σ."""
        squares = ((x - self.mean) ** 2).sum((-3, -2, -1))
        return 0.5 * torch.exp(-2 * self.log_sigma) * squares + math.prod(x.shape[-3:]) * self.log_sigma

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z) = −SSE/(2σ²) − D ln σ − (D/2) ln 2π, nats per image."""
        return -self.reconstruction_loss(x) - 0.5 * math.prod(x.shape[-3:]) * math.log(2 * math.pi)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Draw images; values may leave [0, 1]."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + torch.exp(self.log_sigma) * noise


class Likelihood(likelihoods.Likelihood):
    """Normal likelihood with one learned σ (Rybkin et al. 2021, 2006.13202, section 4).

    Training begins at σ² = ``initial_variance``. Adam moves ln σ by about one learning rate per step, so a short
    training stops before the best σ; ``optimal_gaussian`` has it from the first step on.
    """

    def __init__(
        self, spec: Spec, *, initial_variance: Annotated[float, Gt(math.exp(2 * MIN_LOG_SIGMA))] = 0.5
    ) -> None:
        super().__init__()
        above = math.log(initial_variance) / 2 - MIN_LOG_SIGMA
        self.log_sigma = nn.Parameter(torch.tensor(MIN_LOG_SIGMA + above + math.log(-math.expm1(-above))))
        """ln σ before ``soft_clip``."""

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> FreeNormalPixels:
        """Return the distribution around the sigmoid of ``decoded``."""
        return FreeNormalPixels(torch.sigmoid(decoded), soft_clip(self.log_sigma))
