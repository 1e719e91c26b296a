"""A hierarchical prior with two levels of latents."""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import priors
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.posteriors import Draw, PosteriorDistribution
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.system.device import disable_tf32, no_autocast
from vaelab.system.noise import Noise


class TwoLevel(priors.Density):
    """z₂ ~ N(0, I), z₁|z₂ ~ N(m(z₂), diag s²(z₂)), where z₂ are the last ``top`` latents."""

    def __init__(self, network: nn.Module, latent_dim: int, top: int) -> None:
        self.network, self.latent_dim, self.top = network, latent_dim, top
        self.upper = StandardNormal(top)

    def lower(self, z2: Float[Tensor, "*batch top"]) -> DiagonalNormal:
        """p(z₁|z₂), computed in the type of the weights."""
        with no_autocast(z2.device), disable_tf32():
            parameters: Tensor = self.network(z2.to(next(self.network.parameters()).dtype))
        mean, log_var = parameters.to(z2.dtype).chunk(2, -1)
        return DiagonalNormal(mean, clamp_straight_through(log_var, *LOG_VAR_RANGE))

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln p(z₂) + ln p(z₁|z₂), nats."""
        z1, z2 = self._split(z)
        return self.lower(z2).log_prob(z1) + self.upper.log_prob(z2)

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Draw z₂, then z₁ given z₂."""
        epsilon1, z2 = self._split(noise.normal(count, self.latent_dim))
        return torch.cat([self.lower(z2).rsample(epsilon1), z2], -1)

    def kl(self, q: PosteriorDistribution, draw: Draw) -> Float[Tensor, "batch group"]:
        """KL(q ‖ p), nats; for a diagonal q, only z₂ is sampled: KL(q(z₂) ‖ N(0, I)) + E KL(q(z₁) ‖ p(z₁|z₂))."""
        if not isinstance(q, DiagonalNormal):
            return super().kl(q, draw)
        (mean1, mean2), (log_var1, log_var2) = self._split(q.mean), self._split(q.log_var)
        kl2 = DiagonalNormal(mean2, log_var2).kl_to_standard_normal().sum(-1)
        kl1 = DiagonalNormal(mean1, log_var1).kl(self.lower(self._split(draw.z)[1])).sum(-1).mean(0)
        return (kl1 + kl2)[:, None]

    def _split(self, z: Float[Tensor, "*batch latent"]) -> tuple[Tensor, Tensor]:
        return z[..., : self.latent_dim - self.top], z[..., self.latent_dim - self.top :]


class Prior(priors.Prior):
    """z₂ ~ N(0, I), z₁|z₂ ~ N(m(z₂), diag s²(z₂)) with a network for m and ln s² (1705.07120, section 4).

    z₂ are the last latents, a fraction ``top`` of all. The last layer is initialised to 0, so that training starts at
    N(0, I). The decoder sees both levels. A diagonal posterior infers them independently of each other given the
    image; with the posterior ``iaf``, each latent also depends on the ones before it.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        top: Annotated[float, Gt(0), Le(1)] = 0.5,
        hidden: list[Annotated[int, Ge(1)]] = [300, 300],  # noqa: B006
    ) -> None:
        super().__init__()
        self.latent_dim = spec.latent_dim
        self.top = max(1, round(top * spec.latent_dim))
        widths = [self.top, *hidden]
        self.network = nn.Sequential()
        if lower := self.latent_dim - self.top:
            layers = [part for sizes in pairwise(widths) for part in (nn.Linear(*sizes), nn.Tanh())]
            self.network.extend([*layers, nn.Linear(widths[-1], 2 * lower)])

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Set the last layer to 0."""
        for parameter in list(self.network.parameters())[-2:]:
            parameter.zero_()

    def forward(self, model: priors.InferenceModel) -> priors.Density:
        """Return the density at the current weights; N(0, I) if all latents are z₂."""
        if self.top == self.latent_dim:
            return StandardNormal(self.latent_dim)
        return TwoLevel(self.network, self.latent_dim, self.top)
