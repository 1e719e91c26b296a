"""A learned mixture of normal distributions as prior."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import priors
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


class Mixture(priors.Density):
    """Σ_k π_k N(m_k, diag s_k²)."""

    def __init__(
        self,
        logits: Float[Tensor, " component"],
        mean: Float[Tensor, "component latent"],
        log_var: Float[Tensor, "component latent"],
    ) -> None:
        self.log_weights = torch.log_softmax(logits, 0)
        self.components = DiagonalNormal(mean, log_var)

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln Σ_k π_k N(z; m_k, diag s_k²), nats."""
        return torch.logsumexp(self.log_weights + self.components.log_prob(z[..., None, :]), -1)

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Draw component k by inverting the cumulative weights at Φ(ε₀), then m_k + s_k ε; weights get no gradient."""
        epsilon = noise.normal(count, self.components.mean.shape[1] + 1)
        uniform = torch.special.ndtr(epsilon[:, 0])
        weights = self.log_weights.exp()
        edges = weights.expand(len(weights), -1).tril().sum(1)[:-1]  # torch's cumsum on CUDA is not deterministic
        chosen = torch.searchsorted(edges, uniform.to(edges.dtype))
        return self.components.mean[chosen] + self.components.std[chosen] * epsilon[:, 1:]


class Prior(priors.Prior):
    """p(z) = Σ_k π_k N(m_k, diag s_k²), all learned (Dilokthanakul et al. 2016, 1611.02648; 1705.07120, section 2).

    Means start at samples of N(0, ``spread``²), variances at 1 and weights equal, so that training begins near N(0, I).
    """

    def __init__(
        self, spec: Spec, *, components: Annotated[int, Ge(1)] = 10, spread: Annotated[float, Gt(0)] = 1.0
    ) -> None:
        super().__init__()
        self.spread = spread
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.zeros(components, spec.latent_dim))
        self.log_var = nn.Parameter(torch.zeros(components, spec.latent_dim))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the means of the components."""
        self.mean.normal_(0, self.spread, generator=generator)

    def forward(self, model: priors.InferenceModel) -> Mixture:
        """Return the mixture at its current parameters."""
        return Mixture(self.logits, self.mean, clamp_straight_through(self.log_var, *LOG_VAR_RANGE))
