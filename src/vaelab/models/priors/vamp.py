"""The VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import priors
from vaelab.models.posteriors import NormalNoise, PosteriorDistribution
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.spec import Spec
from vaelab.system.device import disable_tf32


class PosteriorMixture(priors.Density):
    """1/K Σ_k q(z|u_k)."""

    def __init__(self, encode: priors.EncodeBatch, inputs: Float[Tensor, "component channel height width"]) -> None:
        self.encode, self.inputs = encode, inputs
        self.components: PosteriorDistribution = encode(inputs)

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln 1/K Σ_k q(z|u_k), nats."""
        q = self.components
        if isinstance(q, DiagonalNormal):
            each = _log_normals(z, q)
        else:
            each = q.log_prob(z[..., None, :].expand(*z.shape[:-1], *q.mean.shape))
        return torch.logsumexp(each, -1) - math.log(len(self.inputs))

    def sample(self, count: int, noise: NormalNoise) -> Float[Tensor, "count latent"]:
        """Component k = ⌊K Φ(ε)⌋, then a sample of q(z|u_k)."""
        uniform = torch.special.ndtr(noise.normal(count, 1)[:, 0].double())
        chosen = (uniform * len(self.inputs)).long().clamp(max=len(self.inputs) - 1)
        return self.encode(self.inputs[chosen]).draw(noise).z[0]


def _log_normals(z: Float[Tensor, "*samples latent"], q: DiagonalNormal) -> Float[Tensor, "*samples component"]:
    """ln q_k(z) of every component by matrix products, which need no array ``[*samples, K, d]``."""
    precision = torch.exp(-q.log_var)
    with torch.autocast(z.device.type, enabled=False), disable_tf32():
        squares = z.square() @ precision.T - 2 * z @ (q.mean * precision).T + (q.mean.square() * precision).sum(-1)
    return -0.5 * (squares + q.log_var.sum(-1) + z.shape[-1] * math.log(2 * math.pi))


class Prior(priors.Prior):
    """p(z) = 1/K Σ_k q(z|u_k), the pseudo-inputs u_k learned (Tomczak & Welling 2018, 1705.07120, equation 8).

    Pseudo-inputs are clamped to [0, 1]; they start at samples of N(``start_mean``, ``start_std``²).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        components: Annotated[int, Ge(1)] = 500,
        start_mean: float = 0.5,
        start_std: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.start_mean, self.start_std = start_mean, start_std
        self.inputs = nn.Parameter(torch.zeros(components, *spec.image_shape))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the pseudo-inputs."""
        self.inputs.normal_(self.start_mean, self.start_std, generator=generator)

    def forward(self, encode: priors.EncodeBatch) -> PosteriorMixture:
        """The mixture at the present pseudo-inputs and encoder."""
        return PosteriorMixture(encode, self.inputs.clamp(0, 1))
