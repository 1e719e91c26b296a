"""A vector-quantised posterior."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vaelab.models import posteriors
from vaelab.models.posteriors import Gather, PosteriorDistribution
from vaelab.models.posteriors._point_mass import PointMass
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.system.device import disable_tf32, no_autocast
from vaelab.system.noise import Noise

MIN_COUNT = 1e-8
"""Average number of uses in a batch below which the mean of an entry's vectors is not computed."""

MIN_DISTANCE = 1e-4
"""Squared distance of a vector from its entry, over its squared length, above which it may replace a dead entry."""


def choose_code_dim(spec: Spec) -> int:
    """Return the largest power of two up to 64 that divides the number of latents."""
    return max(dim for dim in (1, 2, 4, 8, 16, 32, 64) if spec.latent_dim % dim == 0)


class Posterior(posteriors.QuantisedPosterior):
    """Vector quantisation (van den Oord et al. 2017, 1711.00937): ``code_dim`` latents at a time are one of ``codes``.

    The encoder's vectors are replaced by the nearest entries of one codebook; gradients pass straight through. Entries
    are moving averages of the vectors that chose them (appendix A.1), and the loss has ``commitment`` times the squared
    distance of the encoder's vectors from their entries. An entry that is used less than ``restart`` times as often as
    the average one is replaced by a vector of the batch (Dhariwal et al. 2020, 2005.00341); initially all are.
    """

    terms: ClassVar = (
        Term("commitment", "commitment loss", unit=""),
        Term("perplexity", "codebook perplexity", unit=""),
    )
    loss_terms: ClassVar = ("commitment",)
    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        codes: Annotated[int, Ge(2)] = 512,
        code_dim: Annotated[int, Ge(1), Auto(choose_code_dim)] = 1,
        commitment: Annotated[float, Ge(0)] = 0.25,
        decay: Annotated[float, Ge(0), Lt(1)] = 0.99,
        restart: Annotated[float, Ge(0), Le(1)] = 0.03,
    ) -> None:
        super().__init__()
        if spec.latent_dim % code_dim:
            raise ValueError(f"posterior.code_dim = {code_dim} must divide network.latent_dim = {spec.latent_dim}")
        self.num_parameters, self.num_codes = spec.latent_dim, codes
        self.num_positions = spec.latent_dim // code_dim
        self.commitment, self.decay, self.restart = commitment, decay, restart
        self.register_buffer("codebook", torch.zeros(codes, code_dim))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, code_dim))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the codebook, which the first training batch replaces."""
        self.codebook.normal_(generator=generator)

    def indices(self, z: Float[Tensor, "*batch latent"]) -> Int[Tensor, "*batch position"]:
        """Return the nearest entries."""
        vectors, codebook = self._vectors(z), self.codebook.to(z.dtype)
        with no_autocast(z.device), disable_tf32():  # |z|² is the same for all entries
            return (codebook.square().sum(-1) - 2 * vectors @ codebook.T).argmin(-1)

    def lookup(self, indices: Int[Tensor, "*batch position"]) -> Float[Tensor, "*batch latent"]:
        """Return the code of these entries."""
        return self.codebook[indices].flatten(-2)

    def forward(self, h: Float[Tensor, "batch parameter"]) -> PointMass:
        """Return the nearest codes."""
        indices = self.indices(h.detach())
        code = self.lookup(indices).to(h.dtype)
        usage = F.one_hot(indices, self.num_codes).to(h.dtype).mean(1, keepdim=True)
        return PointMass(h, code, usage, self.commitment * (h - code).square().sum(1).mean())

    def update(self, q: PosteriorDistribution, noise: Noise, gather: Gather) -> None:
        """Move every entry to the average of the vectors that chose it; replace those that are hardly used."""
        assert isinstance(q, PointMass)
        encoded, order = gather(q.source), gather(noise.uniform(len(q.source))).argsort()
        vectors = self._vectors(encoded).flatten(0, 1)
        chosen = F.one_hot(self.indices(encoded).flatten(), self.num_codes).to(vectors.dtype)
        with no_autocast(encoded.device), disable_tf32():
            sums = chosen.T @ vectors
        self.counts.lerp_(chosen.sum(0), 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        counts = self.counts[:, None]
        self.codebook.copy_(torch.where(counts > MIN_COUNT, self.sums / counts.clamp(min=MIN_COUNT), self.codebook))
        mean_count = self.counts.mean()
        is_dead = self.counts < self.restart * mean_count
        # Vectors far from their entries replace one dead entry each; equal entries would be chosen by rounding alone.
        # torch's cumsum on CUDA is not deterministic.
        rank = is_dead.to(vectors.dtype).expand(self.num_codes, -1).tril().sum(1).long() - 1
        candidates = self._vectors(encoded[order]).flatten(0, 1)
        distance = (candidates - self.codebook[self.indices(encoded[order]).flatten()]).square().sum(1)
        is_far = distance > MIN_DISTANCE * candidates.square().sum(1)
        candidates = candidates[(~is_far).to(torch.uint8).argsort(stable=True)]
        is_dead = (is_dead & (rank < is_far.sum()))[:, None]
        candidates = candidates[rank.clamp(0, len(candidates) - 1)]
        self.codebook.copy_(torch.where(is_dead, candidates, self.codebook))
        self.sums.copy_(torch.where(is_dead, candidates * mean_count, self.sums))
        self.counts.copy_(torch.where(is_dead[:, 0], mean_count, self.counts))

    def _vectors(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch position code"]:
        return z.reshape(*z.shape[:-1], self.num_positions, self.codebook.shape[1])
