"""The model's own prior as a sampler."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples
from vaelab.system.noise import GeneratorNoise


class Sampler(samplers.Sampler):
    """The model's prior p(z)."""

    needs_codes: ClassVar = False
    needs: ClassVar = frozenset()

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Do nothing."""

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Return codes drawn from the prior."""
        return self.density.sample(count, GeneratorNoise(generator, self.device)).float().cpu()

    @torch.no_grad()
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln p(z), nats."""
        return self.density.log_prob(z.to(self.device)).cpu()
