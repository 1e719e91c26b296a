"""Normal pixels with a fixed variance and bounded means."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from vaelab.models import likelihoods
from vaelab.models.spec import Spec


@dataclass(frozen=True)
class NormalPixels:
    """Independent normal pixels around ``mean`` with one variance σ²."""

    mean: Float[Tensor, "*batch channel height width"]
    variance: float

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """SSE/(2σ²), nats per image; for σ² = ½ the sum of squared errors."""
        return ((x - self.mean) ** 2).sum((-3, -2, -1)) * (0.5 / self.variance)

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z) = −SSE/(2σ²) − (D/2) ln 2πσ², nats per image."""
        num_pixels = math.prod(x.shape[-3:])
        return -self.reconstruction_loss(x) - 0.5 * num_pixels * math.log(2 * math.pi * self.variance)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Draw images; values may leave [0, 1]."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + math.sqrt(self.variance) * noise


class Likelihood(likelihoods.Likelihood):
    """Normal likelihood with a fixed variance; with σ² = ½ the reconstruction loss is the sum of squared errors.

    With the ``link`` "tanh" means may be negative. It is meant for models of other packages that have it.
    """

    def __init__(
        self, spec: Spec, *, variance: Annotated[float, Gt(0)] = 0.5, link: Literal["sigmoid", "tanh"] = "sigmoid"
    ) -> None:
        super().__init__()
        self.fixed_variance = self.variance = variance
        self.link = torch.tanh if link == "tanh" else torch.sigmoid

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> NormalPixels:
        """Return the distribution around the ``link`` of ``decoded``."""
        return NormalPixels(self.link(decoded), self.variance)
