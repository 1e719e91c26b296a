"""A mixture of normal distributions fitted to the codes of a trained model."""

import warnings
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples, as_finite
from vaelab.models.priors import Density
from vaelab.models.spec import Spec
from vaelab.system.errors import InputError

CHUNK = 4096
"""Number of codes whose density is computed at a time."""


class Sampler(samplers.Sampler):
    """Σ_k π_k N(m_k, Σ_k) with full covariances, by expectation–maximisation (Ghosh et al. 2020, 1903.12436).

    It is fitted to samples of the posteriors, not to their means. For a conditional model it ignores the condition.
    """

    needs_codes: ClassVar = True
    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        components: Annotated[int, Ge(1)] = 10,
    ) -> None:
        super().__init__(spec, density, device)
        self.components, d = components, spec.latent_dim
        self.register_buffer("weights", torch.zeros(components, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(components, d, dtype=torch.float64))
        self.register_buffer("covariances", torch.zeros(components, d, d, dtype=torch.float64))
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Fit in float64; InputError for codes that are not finite, and for fewer codes than components."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        z = as_finite(codes.z, "codes")
        if len(z) < self.components:
            needed = f"a mixture of {self.components} normal distributions needs {self.components} codes or more"
            raise InputError(f"{needed}, got {len(z)}; use the sampler prior", subject="codes", value=len(z))
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        # not "kmeans", whose threads add up in any order
        mixture = GaussianMixture(self.components, init_params="k-means++", random_state=seed, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the mixture is a density at every iteration
            mixture.fit(z)
        fitted = {"weights": mixture.weights_, "means": mixture.means_, "covariances": mixture.covariances_}
        self.load_state_dict({**{k: torch.from_numpy(v) for k, v in fitted.items()}, "num_codes": torch.tensor(len(z))})

    @property
    def protocol(self) -> dict[str, Any]:
        """Number of components and of training codes."""
        fitted_to = "one posterior sample per training image"
        counts = {"components": self.components, "codes": int(self.get_buffer("num_codes"))}
        return {**super().protocol, **counts, "covariance": "full", "fitted_to": fitted_to}

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Draw a component for each code, then a sample of it."""
        chosen = torch.multinomial(self.weights, max(count, 1), replacement=True, generator=generator)[:count]
        epsilon = torch.randn(count, self.spec.latent_dim, generator=generator, dtype=torch.float64)
        scale: Tensor = torch.linalg.cholesky(self.covariances)
        return (self.means[chosen] + (scale[chosen] * epsilon[:, None, :]).sum(-1)).float()

    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Return the logarithm of the density of the mixture, nats, float64."""
        mixture = MixtureSameFamily(Categorical(self.weights), MultivariateNormal(self.means, self.covariances))
        parts = torch.split(z.detach().cpu().double(), CHUNK)
        return torch.cat([mixture.log_prob(part) for part in parts])  # type: ignore[no-untyped-call]
