"""A normal posterior with one constant variance."""

import math
from typing import Annotated, ClassVar

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from vaelab.models import posteriors
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.spec import Spec


class Posterior(posteriors.Posterior):
    """q(z|x) = N(μ(x), s² I) with the constant ``std`` s; the encoder returns μ (Ghosh et al. 2020, 1903.12436).

    With a small s it is the deterministic encoder of rae and wae, and keeps a density for metrics and samplers. With
    the ELBO, the means spread until they compensate for the small noise.
    """

    provides: ClassVar = frozenset({"continuous_posterior", "diagonal_posterior"})

    def __init__(self, spec: Spec, *, std: Annotated[float, Gt(1e-6)] = 0.01) -> None:
        super().__init__()
        self.num_parameters, self.log_var = spec.latent_dim, 2 * math.log(std)

    def forward(self, h: Float[Tensor, "batch parameter"]) -> DiagonalNormal:
        """Return the distribution with mean ``h``."""
        return DiagonalNormal(h, 0 * h + self.log_var)
