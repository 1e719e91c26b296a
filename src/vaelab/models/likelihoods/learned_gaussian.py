"""Normal pixels with one standard deviation that is learned (σ-VAE), mean from a sigmoid."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models.spec import Spec

MIN_LOG_SIGMA = -6.0
"""Of σ on the scale of grey levels in [0, 1]: 0.0025, under one of 256 levels. Without a floor, σ → 0 and ln p → ∞
where a model reconstructs perfectly."""


def soft_clip(log_sigma: Float[Tensor, "*shape"], minimum: float = MIN_LOG_SIGMA) -> Float[Tensor, "*shape"]:
    """``minimum`` + softplus(ln σ − ``minimum``): never below ``minimum``, nearly ln σ far above (2006.13202, code)."""
    return minimum + F.softplus(log_sigma - minimum)


@dataclass(frozen=True)
class FreeNormalPixels:
    """Independent normal pixels around ``mean`` with one standard deviation σ that is not fixed beforehand."""

    mean: Float[Tensor, "*batch channel height width"]
    log_sigma: Float[Tensor, ""]

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """SSE/(2σ²) + D ln σ, nats per image; below 0 where σ is small."""
        squares = ((x - self.mean) ** 2).sum((-3, -2, -1))
        return 0.5 * torch.exp(-2 * self.log_sigma) * squares + math.prod(x.shape[-3:]) * self.log_sigma

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z) = −SSE/(2σ²) − D ln σ − (D/2) ln 2π, nats per image."""
        return -self.reconstruction_loss(x) - 0.5 * math.prod(x.shape[-3:]) * math.log(2 * math.pi)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Mean plus noise; may leave [0, 1]."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + torch.exp(self.log_sigma) * noise


class Likelihood(nn.Module):
    """Normal likelihood whose one σ is a weight like others (Rybkin et al. 2021, 2006.13202, section 4).

    σ² = ``initial_variance`` when training begins; by default that of ``gaussian``. Adam moves ln σ by about its
    learning rate a step; ``optimal_gaussian`` is at the best σ at once.
    """

    channels_per_pixel = 1

    def __init__(
        self, spec: Spec, *, initial_variance: Annotated[float, Gt(math.exp(2 * MIN_LOG_SIGMA))] = 0.5
    ) -> None:
        super().__init__()
        above = math.log(initial_variance) / 2 - MIN_LOG_SIGMA
        self.log_sigma = nn.Parameter(torch.tensor(MIN_LOG_SIGMA + above + math.log(-math.expm1(-above))))
        """Before it is clipped."""

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> FreeNormalPixels:
        """The distribution of the pixels, given what the decoder returned."""
        return FreeNormalPixels(torch.sigmoid(decoded), soft_clip(self.log_sigma))
