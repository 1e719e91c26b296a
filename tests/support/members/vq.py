"""Vector quantisation with moving averages and restarts (van den Oord et al. 2017, 1711.00937, appendix A.1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vaelab.models import posteriors
from vaelab.models.gradients import straight_through
from vaelab.models.posteriors import Draw, Gather, PosteriorDistribution
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.system.seeds import Noise

COMMITMENT = 0.25


@dataclass(frozen=True)
class Quantised(PosteriorDistribution):
    """A point mass on the codes nearest to ``encoded``."""

    encoded: Tensor
    code: Tensor
    usage: Tensor
    """Share of each codebook entry among the positions of an image ``[B, K]``."""

    @property
    def mean(self) -> Tensor:
        """The code."""
        return self.code

    @property
    def log_var(self) -> Tensor:
        """The least log-variance of any posterior."""
        return torch.full_like(self.code, LOG_VAR_RANGE[0])

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """Return the code, with the gradient of the encoder's output; ln q = 0."""
        z = straight_through(self.code, self.encoded).expand(samples, *self.code.shape)
        return Draw(z, torch.zeros_like(z[..., 0]))

    def log_prob(self, z: Tensor) -> Tensor:
        """0 for the code, −∞ for others."""
        zeros = torch.zeros_like(z[..., 0])
        return zeros.masked_fill((z != self.code).any(-1), -math.inf)

    def to(self, device: torch.device) -> "Quantised":
        """Return the same distribution on ``device``."""
        return Quantised(self.encoded.to(device), self.code.to(device), self.usage.to(device))

    def losses(self) -> Mapping[str, Tensor]:
        """The commitment loss."""
        return {"commitment": COMMITMENT * (self.encoded - self.code.detach()).square().sum(1).mean()}

    def statistics(self, gather: Gather) -> Mapping[str, Tensor]:
        """The number of codes that are used equally often."""
        share = gather(self.usage).mean(0)
        return {"perplexity": torch.exp(torch.special.entr(share).sum())}


class Posterior(posteriors.QuantisedPosterior):
    """``latent_dim / code_dim`` positions with an entry of one codebook each."""

    terms: ClassVar = (Term("commitment", "commitment loss"), Term("perplexity", "codebook perplexity", unit=""))
    loss_terms: ClassVar = ("commitment",)
    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, spec: Spec, *, codes: int = 12, code_dim: int = 1, decay: float = 0.9) -> None:
        super().__init__()
        if spec.latent_dim % code_dim:
            raise ValueError(f"posterior.code_dim = {code_dim} must divide network.latent_dim = {spec.latent_dim}")
        self.num_parameters, self.num_codes, self.decay = spec.latent_dim, codes, decay
        self.num_positions = spec.latent_dim // code_dim
        self.register_buffer("codebook", torch.zeros(codes, code_dim))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", torch.zeros(codes, code_dim))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the codebook."""
        self.sums.copy_(self.codebook.normal_(generator=generator))

    def indices(self, z: Tensor) -> Tensor:
        """Return the nearest entries."""
        vectors = z.unflatten(-1, (self.num_positions, -1))
        return (vectors[..., None, :] - self.codebook).square().sum(-1).argmin(-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the code of these entries."""
        return self.codebook[indices].flatten(-2)

    def forward(self, h: Tensor) -> Quantised:
        """Return the nearest codes."""
        indices = self.indices(h.detach())
        usage = F.one_hot(indices, self.num_codes).to(h.dtype).mean(1)
        return Quantised(h, self.lookup(indices), usage)

    def update(self, q: PosteriorDistribution, noise: Noise, gather: Gather) -> None:
        """Move every entry towards the outputs that chose it; replace those that are hardly used by outputs."""
        assert isinstance(q, Quantised)
        encoded, order = gather(q.encoded), gather(noise.uniform(len(q.encoded))).argsort()
        chosen = F.one_hot(self.indices(encoded), self.num_codes).to(encoded.dtype)
        vectors = encoded.unflatten(-1, (self.num_positions, -1))
        self.counts.lerp_(chosen.sum((0, 1)), 1 - self.decay)
        self.sums.lerp_((chosen[..., None] * vectors[..., None, :]).sum((0, 1)), 1 - self.decay)
        self.codebook.copy_(self.sums / self.counts[:, None].clamp(min=1e-3))
        candidates = vectors[order].flatten(0, 1)
        candidates = candidates[torch.arange(self.num_codes, device=encoded.device) % len(candidates)]
        is_dead = self.counts[:, None] < 0.1
        self.codebook.copy_(torch.where(is_dead, candidates, self.codebook))
        self.sums.copy_(torch.where(is_dead, candidates, self.sums))
        self.counts.copy_(torch.where(is_dead[:, 0], 1.0, self.counts))
