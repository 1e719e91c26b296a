"""A posterior by finite scalar quantisation."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vaelab.models import posteriors
from vaelab.models.posteriors._point_mass import PointMass
from vaelab.models.spec import Spec
from vaelab.models.terms import Term

MARGIN = 1e-3
"""Share by which the bounds exceed the outermost levels, so that tanh reaches them."""


class Posterior(posteriors.QuantisedPosterior):
    """Finite scalar quantisation (Mentzer et al. 2023, 2309.15505): each latent is bounded and rounded to some levels.

    Latents take the numbers in ``levels`` in turn, so that a position has as many latents as there are numbers, and the
    codebook consists of all combinations of their levels. There is no learned codebook and no extra loss; gradients
    pass straight through the rounding. Codes are in [−1, 1].

    Before tanh, the outputs for an image are divided by √(1 + their mean square), unlike in the paper. Without this
    normalisation, the first steps saturate tanh, and every image gets the same code.
    """

    terms: ClassVar = (Term("perplexity", "levels in use, of a latent", unit=""),)
    levels: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        levels: Annotated[list[Annotated[int, Ge(3), Le(1024)]], Len(1)] = [8],  # noqa: B006
    ) -> None:
        super().__init__()
        if spec.latent_dim % len(levels):
            wanted = f"a multiple of the {len(levels)} numbers in posterior.levels"
            raise ValueError(f"network.latent_dim = {spec.latent_dim} must be {wanted}")
        self.num_parameters = spec.latent_dim
        self.num_positions, self.num_codes = spec.latent_dim // len(levels), math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels).repeat(self.num_positions), persistent=False)
        self.max_levels = max(levels)

    def forward(self, h: Float[Tensor, "batch parameter"]) -> PointMass:
        """Return the rounded codes."""
        half = self._half(h.dtype)
        offset = (self.levels % 2 == 0).to(h.dtype) / 2  # an even number of levels is not symmetric about 0
        width = (self.levels - 1).to(h.dtype) * (1 + MARGIN) / 2
        h = h / (1 + h.square().mean(1, keepdim=True)).sqrt()
        bounded = torch.tanh(h + torch.atanh(offset / width)) * width - offset
        rounded = bounded.detach().round()
        usage = F.one_hot((rounded + half).long(), self.max_levels).to(h.dtype)
        return PointMass(bounded / half, rounded / half, usage)

    def indices(self, z: Float[Tensor, "*batch latent"]) -> Int[Tensor, "*batch position"]:
        """Return the nearest entries; the level of a position's first latent counts least."""
        level = (z.detach() * self._half(z.dtype) + self._half(z.dtype)).round().long()
        level = torch.minimum(level.clamp(min=0), self.levels - 1)
        return self._by_position(level * self._places().repeat(self.num_positions)).sum(-1)

    def lookup(self, indices: Int[Tensor, "*batch position"]) -> Float[Tensor, "*batch latent"]:
        """Return the code of these entries."""
        level = indices[..., None] // self._places() % self._by_position(self.levels)[0]
        half = self._half(torch.get_default_dtype())
        return (level.flatten(-2) - half) / half

    def _half(self, dtype: torch.dtype) -> Float[Tensor, " latent"]:
        """Half of each number of levels, rounded down: the distance of 0 from the lowest level."""
        return (self.levels // 2).to(dtype)

    def _places(self) -> Int[Tensor, " digit"]:
        """Number of combinations of the latents of a position before each."""
        numbers = self._by_position(self.levels)[0]
        return torch.cat([numbers.new_ones(1), numbers.cumprod(0)[:-1]])

    def _by_position(self, values: Int[Tensor, "*batch latent"]) -> Int[Tensor, "*batch position digit"]:
        return values.reshape(*values.shape[:-1], self.num_positions, len(self.levels) // self.num_positions)
