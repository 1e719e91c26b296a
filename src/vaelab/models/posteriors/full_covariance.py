"""A normal posterior with full covariance."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models import posteriors
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.posteriors import Draw
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, draw_normal
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


@dataclass(frozen=True)
class FullNormal(posteriors.PosteriorDistribution):
    """N(μ, L Lᵀ) over latents, L lower triangular with a positive diagonal."""

    mean: Float[Tensor, "batch latent"]
    scale: Float[Tensor, "batch latent latent"]
    """L, the Cholesky factor of the covariance."""

    log_var: Float[Tensor, "batch latent"]
    """Logarithm of the variance of each latent, the diagonal of L Lᵀ."""

    @property
    def _log_diagonal(self) -> Float[Tensor, " batch"]:
        log_diagonal: Tensor = self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_diagonal

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """z = μ + L ε, with ln q = −½ |ε|² − Σ ln L_jj − (d/2) ln 2π."""
        epsilon = draw_normal(noise, samples, *self.mean.shape).to(self.mean.dtype)
        # a sum of products, not a matrix product: autocast and TF32 would round it
        return Draw(self.mean + (self.scale * epsilon[..., None, :]).sum(-1), self._log_density(epsilon))

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """−½ |L⁻¹ (z − μ)|² − Σ ln L_jj − (d/2) ln 2π, nats."""
        rest = (z - self.mean)[..., None]
        scale = self.scale.expand(*rest.shape[:-2], *self.scale.shape[-2:])
        return self._log_density(torch.linalg.solve_triangular(scale, rest, upper=False)[..., 0])

    def _log_density(self, epsilon: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """ln q at μ + L ε."""
        squares = epsilon.square().sum(-1)
        log_density: Tensor = -0.5 * (squares + epsilon.shape[-1] * math.log(2 * math.pi)) - self._log_diagonal
        return log_density

    def to(self, device: torch.device) -> "FullNormal":
        """Return the same distribution on ``device``."""
        return FullNormal(self.mean.to(device), self.scale.to(device), self.log_var.to(device))

    def kl_to_standard_normal(self) -> Float[Tensor, "batch 1"]:
        """KL to N(0, I), one number per image, nats: ½ (|μ|² + ‖L‖² − d) − Σ ln L_jj."""
        squares = self.mean.square().sum(-1) + self.scale.square().sum((-2, -1)) - self.mean.shape[-1]
        return (0.5 * squares - self._log_diagonal)[:, None]


class Posterior(posteriors.Posterior):
    """q(z|x) = N(μ(x), L(x) L(x)ᵀ); the encoder returns μ, 2 ln L_jj and the entries of L below its diagonal.

    It removes the gap of a diagonal posterior if latents are correlated given the image. For probabilistic PCA the
    remaining gap is 0 (Lucas et al. 2019, 1911.02469).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.latent_dim = spec.latent_dim
        self.num_parameters = spec.latent_dim * (spec.latent_dim + 3) // 2

    def forward(self, h: Float[Tensor, "batch parameter"]) -> FullNormal:
        """Return the distribution with mean, diagonal and lower triangle from the three parts of ``h``."""
        d = self.latent_dim
        mean, log_var, below = h[:, :d], h[:, d : 2 * d], h[:, 2 * d :]
        scale = torch.diag_embed(torch.exp(0.5 * clamp_straight_through(log_var, *LOG_VAR_RANGE)))
        # This puts every entry once into the lower triangle of a square of d − 1. Indexing would do so as well, but
        # deterministic indexing sorts on CUDA, and indices from the host cannot be captured.
        square = torch.cat([below[:, d - 1 :], below.flip(1)], 1).view(-1, d - 1, d - 1) if d > 1 else scale[:, 1:, 1:]
        scale[:, 1:, :-1] += square.tril()
        return FullNormal(mean, scale, scale.square().sum(-1).log())
