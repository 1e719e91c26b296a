"""The uniform prior of quantised codes."""

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vaelab.models import priors
from vaelab.models.posteriors import QuantisedPosterior
from vaelab.models.spec import Spec
from vaelab.system.noise import Noise


class UniformCodes(priors.Density):
    """Every code of a codebook is equally likely at every position."""

    def __init__(self, codebook: QuantisedPosterior) -> None:
        self.codebook = codebook

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """−P ln K for every code, nats; P positions, K codes."""
        return 0 * z[..., 0] - self.codebook.num_positions * math.log(self.codebook.num_codes)

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Draw a code for each position."""
        uniform = noise.uniform(count, self.codebook.num_positions)
        return self.codebook.lookup((uniform * self.codebook.num_codes).long())


class Prior(priors.Prior):
    """p(z) = K^−P, uniform over K codes at each of P positions (van den Oord et al. 2017, 1711.00937).

    The KL is the constant P ln K and has no gradient. Samples of independent codes look like noise unless positions
    are few: the sampler autoregressive learns their joint distribution.
    """

    needs: ClassVar = frozenset({"quantised_posterior"})

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, model: priors.InferenceModel) -> UniformCodes:
        """Return the distribution over the codebook of the posterior."""
        assert isinstance(model.posterior, QuantisedPosterior)
        return UniformCodes(model.posterior)
