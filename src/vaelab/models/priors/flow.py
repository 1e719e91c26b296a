"""A normalising flow as prior."""

from typing import Annotated

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.models import priors
from vaelab.models.flows import AutoregressiveFlow, Univariate
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


class FlowDensity(priors.Density):
    """p(z) = N(f(z); 0, I) |det df/dz|."""

    def __init__(self, flow: AutoregressiveFlow, latent_dim: int) -> None:
        self.flow, self.base = flow, StandardNormal(latent_dim)

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln N(f(z); 0, I) + ln |det df/dz|, nats."""
        u, log_determinant = self.flow(z)
        log_prob: Tensor = self.base.log_prob(u) + log_determinant
        return log_prob

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Return f⁻¹ of standard normal noise, one latent after the other."""
        return self.flow.inverse(self.base.sample(count, noise))


class Prior(priors.Prior):
    """p(z) = N(f(z); 0, I) |det df/dz| with a masked autoregressive flow f (Papamakarios et al. 2017, 1705.07057).

    f starts as the identity, so that training begins at N(0, I). ``univariate`` is the function of one latent:
    "affine", or "spline" (Durkan et al. 2019, 1906.04032), which is the identity outside of ±5. Drawing codes takes one
    pass for each latent. Needs the extra ``flows``.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        transforms: Annotated[int, Ge(1)] = 4,
        hidden: list[Annotated[int, Ge(1)]] = [64, 64],  # noqa: B006
        univariate: Univariate = "affine",
    ) -> None:
        super().__init__()
        self.latent_dim = spec.latent_dim
        self.flow = AutoregressiveFlow(spec.latent_dim, transforms=transforms, hidden=hidden, univariate=univariate)

    def forward(self, model: priors.InferenceModel) -> FlowDensity:
        """Return the density at the current weights."""
        return FlowDensity(self.flow, self.latent_dim)
