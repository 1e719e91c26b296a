"""An inverse autoregressive flow as posterior."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.models import posteriors
from vaelab.models.flows import AutoregressiveFlow
from vaelab.models.posteriors import Draw
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.posteriors.diagonal import Posterior as Diagonal
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


@dataclass(frozen=True)
class FlowPosterior(posteriors.PosteriorDistribution):
    """z = f(y; context) with y ~ ``base``."""

    has_exact_moments: ClassVar[bool] = False
    base: DiagonalNormal
    context: Float[Tensor, "batch context"]
    flow: AutoregressiveFlow

    @cached_property  # training does not need it
    def mean(self) -> Float[Tensor, "batch latent"]:  # type: ignore[override]
        """The image of the mean of the base, near the mean of the posterior."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.base.mean.requires_grad):
            mean: Tensor = self.flow(self.base.mean, self.context)[0]
        return mean

    @property
    def log_var(self) -> Float[Tensor, "batch latent"]:  # type: ignore[override]
        """Log-variance of the base."""
        return self.base.log_var

    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """z = f(y), with ln q = ln N(y; base) − ln |det dz/dy| (1606.04934, equation 11)."""
        y = self.base.draw(noise, samples).z
        z, log_determinant = self.flow(y, self.context)
        return Draw(z, self.base.log_prob(y) - log_determinant)

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """ln q(z|x), nats, by inverting the flow latent by latent."""
        y = self.flow.inverse(z, self.context)
        log_prob: Tensor = self.base.log_prob(y) - self.flow(y, self.context)[1]
        return log_prob

    def to(self, device: torch.device) -> "FlowPosterior":
        """Return the same distribution on ``device``."""
        flow = self.flow
        if next(flow.parameters()).device != device:
            tensors = (*flow.parameters(), *flow.buffers())
            flow = copy.deepcopy(flow, {id(tensor): tensor.to(device) for tensor in tensors})  # copies only the rest
        return FlowPosterior(self.base.to(device), self.context.to(device), flow)


class Posterior(posteriors.Posterior):
    """z = f(y; c(x)), y ~ N(μ(x), diag σ²(x)), with affine autoregressive steps f (Kingma et al. 2016, 1606.04934).

    The encoder returns μ, ln σ² and a context c with one number for each latent. f starts as the identity, so that
    training begins with a diagonal posterior. One step without hidden layers can be any normal posterior. Drawing
    codes takes one pass; the density of other codes, which a VampPrior needs, takes one for each latent. Needs the
    extra ``flows``.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        transforms: Annotated[int, Ge(1)] = 2,
        hidden: list[Annotated[int, Ge(1)]] = [64],  # noqa: B006
    ) -> None:
        super().__init__()
        self.base, d = Diagonal(spec), spec.latent_dim
        self.num_parameters = 3 * d
        self.flow = AutoregressiveFlow(d, d, transforms=transforms, hidden=hidden, univariate="affine")

    def forward(self, h: Float[Tensor, "batch parameter"]) -> FlowPosterior:
        """Return the flow on the diagonal normal of the first two thirds of ``h``, with the last as context."""
        d = h.shape[1] // 3
        return FlowPosterior(self.base(h[:, : 2 * d]), h[:, 2 * d :], self.flow)
