"""One affine step of an inverse autoregressive flow on a diagonal normal (Kingma et al. 2016, 1606.04934)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaelab.models import posteriors
from vaelab.models.posteriors import Draw
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.posteriors.diagonal import Posterior as Diagonal
from vaelab.models.spec import Spec
from vaelab.system.seeds import Noise


@dataclass(frozen=True)
class Flow(posteriors.PosteriorDistribution):
    """z_i = y_i exp(s_i) + t_i with y ~ ``base``, t = y Aᵀ and s = tanh(y Bᵀ), A and B strictly lower triangular."""

    has_exact_moments: ClassVar[bool] = False
    base: DiagonalNormal
    shift: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The image of the mean of the base."""
        return self._transform(self.base.mean)[0]

    @property
    def log_var(self) -> Tensor:
        """Log-variance of the base."""
        return self.base.log_var

    def _transform(self, y: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = torch.tanh((self.scale * y[..., None, :]).sum(-1))
        return y * torch.exp(log_scale) + (self.shift * y[..., None, :]).sum(-1), log_scale.sum(-1)

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """Return samples with their log density."""
        y = self.base.draw(noise, samples).z
        z, log_determinant = self._transform(y)
        return Draw(z, self.base.log_prob(y) - log_determinant)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z|x), nats, by inverting the flow latent by latent."""
        y = torch.zeros_like(z)
        for i in range(z.shape[-1]):
            shift = (self.shift[i] * y).sum(-1)
            log_scale = torch.tanh((self.scale[i] * y).sum(-1))
            found = (z[..., i] - shift) * torch.exp(-log_scale)
            y = torch.cat([y[..., :i], found[..., None], y[..., i + 1 :]], -1)
        return self.base.log_prob(y) - self._transform(y)[1]

    def to(self, device: torch.device) -> "Flow":
        """Return the same distribution on ``device``."""
        return Flow(self.base.to(device), self.shift.to(device), self.scale.to(device))


class Posterior(posteriors.Posterior):
    """A flow whose weights are parameters of the posterior."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.base = Diagonal(spec)
        self.num_parameters = self.base.num_parameters
        self.shift, self.scale = (nn.Parameter(torch.zeros(spec.latent_dim, spec.latent_dim)) for _ in range(2))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights."""
        for weight in (self.shift, self.scale):
            weight.uniform_(-0.5, 0.5, generator=generator)

    def forward(self, h: Tensor) -> Flow:
        """Return the flow on the diagonal normal of ``h``."""
        return Flow(self.base(h), self.shift.tril(-1), self.scale.tril(-1))
