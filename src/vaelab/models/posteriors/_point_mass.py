"""The distribution of quantised posteriors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models.gradients import straight_through
from vaelab.models.posteriors import Draw, Gather, PosteriorDistribution
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE
from vaelab.system.noise import Noise


@dataclass(frozen=True)
class PointMass(PosteriorDistribution):
    """A point mass on the code of each image, whose gradient passes straight through to ``source``."""

    source: Float[Tensor, "batch latent"]
    """Encoder outputs before quantisation."""
    mean: Float[Tensor, "batch latent"]
    """The codes."""
    usage: Float[Tensor, "batch group entry"]
    """Share of each entry of a codebook among the positions of an image, for each group of positions."""
    commitment: Float[Tensor, ""] | None = None
    """Commitment loss, if there is one."""

    @property
    def log_var(self) -> Float[Tensor, "batch latent"]:  # type: ignore[override]
        """Return the least log-variance of any posterior: a code without noise."""
        return 0 * self.mean + LOG_VAR_RANGE[0]  # not full_like: sizes of the batch cannot be exported

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """Return the code, with ln q = 0."""
        z = straight_through(self.mean, self.source)[None].expand(samples, -1, -1)
        return Draw(z, 0 * z[..., 0])

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """0 for the code, −∞ for others."""
        return torch.zeros_like(z[..., 0]).masked_fill((z != self.mean).any(-1), -math.inf)

    def to(self, device: torch.device) -> "PointMass":
        """Return the same distribution on ``device``."""
        commitment = None if self.commitment is None else self.commitment.to(device)
        return PointMass(self.source.to(device), self.mean.to(device), self.usage.to(device), commitment)

    def losses(self) -> Mapping[str, Float[Tensor, ""]]:
        """Return the commitment loss."""
        return {} if self.commitment is None else {"commitment": self.commitment}

    def statistics(self, gather: Gather) -> Mapping[str, Float[Tensor, ""]]:
        """Return the perplexity of the entries used in the batch: their number if all are used equally often."""
        share = gather(self.usage).mean(0)
        return {"perplexity": torch.exp(torch.special.entr(share).sum(-1).mean())}
