"""A mixture of normal distributions fitted to the codes of a trained model."""

import warnings
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.models import samplers
from vaelab.models.codes import as_finite
from vaelab.models.priors import Density
from vaelab.models.spec import Spec


class Sampler(samplers.Sampler):
    """Σ_k π_k N(m_k, Σ_k) with full covariances, by expectation–maximisation (Ghosh et al. 2020, 1903.12436).

    Fitted to samples of the posteriors, not to their means; for a conditional model to the codes of all conditions.
    """

    needs_codes: ClassVar = True

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        components: Annotated[int, Ge(1)] = 10,
    ) -> None:
        super().__init__(spec, density, device)
        self.components = components
        self._mixture: Any = None

    def fit(self, codes: Float[np.ndarray, "n latent"], generator: torch.Generator) -> None:
        """Fit in float64; ValueError for codes that are not finite, and for fewer codes than components."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        if len(codes) < self.components:
            raise ValueError(
                f"a mixture of {self.components} normal distributions needs {self.components} codes or more, and there "
                f"are {len(codes)}; sample from the prior instead"
            )
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        # not "kmeans", whose threads add up in any order
        mixture = GaussianMixture(self.components, init_params="k-means++", random_state=seed, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the mixture is a density at every iteration
            self._mixture = mixture.fit(as_finite(codes, "codes"))

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """A component for each code, then a sample of it."""
        weights, means, covariances = (
            torch.from_numpy(values)
            for values in (self._mixture.weights_, self._mixture.means_, self._mixture.covariances_)
        )
        chosen = torch.multinomial(weights, max(count, 1), replacement=True, generator=generator)[:count]
        epsilon = torch.randn(count, means.shape[1], generator=generator, dtype=means.dtype)
        scale: Tensor = torch.linalg.cholesky(covariances)
        return (means[chosen] + (scale[chosen] * epsilon[:, None, :]).sum(-1)).float()

    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln of the mixture's density, nats, float64."""
        densities: Tensor = torch.from_numpy(self._mixture.score_samples(as_finite(z.detach().cpu().numpy(), "codes")))
        return densities
