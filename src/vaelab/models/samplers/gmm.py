"""A mixture of normal distributions fitted to the codes of a trained model."""

import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples, as_finite
from vaelab.models.priors import Density
from vaelab.models.samplers._training import HELD_OUT
from vaelab.models.spec import Spec
from vaelab.system.errors import InputError
from vaelab.system.messages import count_of

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

CHUNK = 4096
"""Number of codes whose density is computed at a time."""
CANDIDATES = (1, 3, 10, 30)
"""Numbers of components that "auto" compares."""
COMPARED_CODES, COMPARED_ITERATIONS, ITERATIONS = 5000, 50, 200
"""Most codes and iterations of such a comparison, and iterations of the mixture that is used."""


class Sampler(samplers.Sampler):
    """Σ_k π_k N(m_k, Σ_k) with full covariances, by expectation–maximisation (Ghosh et al. 2020, 1903.12436).

    It is fitted to samples of the posteriors, not to their means. The paper has 10 components. "auto" fits 1,
    3, 10 and 30 components to nine tenths of at most 5,000 codes and stops when the density of the others no longer
    rises. The chosen number is then fitted to all codes. For a conditional model it ignores the condition.
    """

    needs_codes: ClassVar = True
    weights: Tensor
    means: Tensor
    covariances: Tensor
    num_codes: Tensor

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        components: Annotated[int, Ge(1)] | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(spec, density, device)
        self.components, d = components, spec.latent_dim
        most = max(CANDIDATES) if components == "auto" else components
        for name, shape in (("weights", (most,)), ("means", (most, d)), ("covariances", (most, d, d))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Fit in float64; InputError for codes that are not finite, and for fewer codes than components."""
        z, seed = as_finite(codes.z, "codes"), int(torch.randint(2**31 - 1, (), generator=generator))
        components = choose_components(z, seed) if self.components == "auto" else self.components
        if len(z) < (least := max(components, 2)):
            needed = f"a mixture of {count_of(components, 'normal distribution')} needs {least} codes or more"
            raise InputError(f"{needed}, got {len(z)}; use the sampler prior", subject="codes", value=len(z))
        mixture = fit_mixture(z, components, seed)
        fitted = (mixture.weights_, mixture.means_, mixture.covariances_)
        for buffer, values in zip((self.weights, self.means, self.covariances), fitted, strict=True):
            buffer.zero_()[:components] = torch.from_numpy(values)
        self.num_codes.fill_(len(z))

    @property
    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and covariances of the components."""
        n = int((self.weights > 0).sum())
        return self.weights[:n], self.means[:n], self.covariances[:n]

    @property
    def protocol(self) -> dict[str, Any]:
        """Number of components and of training codes."""
        fitted_to = "one posterior sample per training image"
        counts = {"components": len(self.mixture[0]), "codes": int(self.num_codes)}
        return {**super().protocol, **counts, "covariance": "full", "fitted_to": fitted_to}

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Draw a component for each code, then a sample of it."""
        weights, means, covariances = self.mixture
        chosen = torch.multinomial(weights, max(count, 1), replacement=True, generator=generator)[:count]
        epsilon = torch.randn(count, self.spec.latent_dim, generator=generator, dtype=torch.float64)
        scale: Tensor = torch.linalg.cholesky(covariances)
        return (means[chosen] + (scale[chosen] * epsilon[:, None, :]).sum(-1)).float()

    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Return the logarithm of the density of the mixture, nats, float64."""
        weights, means, covariances = self.mixture
        mixture = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
        parts = torch.split(z.detach().cpu().double(), CHUNK)
        return torch.cat([mixture.log_prob(part) for part in parts])  # type: ignore[no-untyped-call]


def fit_mixture(
    z: Float[np.ndarray, "n latent"], components: int, seed: int, iterations: int = ITERATIONS
) -> "GaussianMixture":
    """Return a mixture fitted to codes by expectation–maximisation, in float64."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    # not "kmeans", whose threads add up in any order
    mixture = GaussianMixture(components, init_params="k-means++", random_state=seed, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the mixture is a density at every iteration
        mixture.fit(z)
    return mixture


def choose_components(z: Float[np.ndarray, "n latent"], seed: int) -> int:
    """Return the first of ``CANDIDATES`` after which the mean log-density of held-out codes no longer rises.

    Every tenth code of a random order is held out. With too few codes for two candidates it is 1.
    """
    z = z[np.random.default_rng(seed).permutation(len(z))[:COMPARED_CODES]]
    held_out, others = z[: len(z) // HELD_OUT], z[len(z) // HELD_OUT :]
    best, highest = CANDIDATES[0], -np.inf
    for components in CANDIDATES:
        if not len(held_out) or len(others) < max(components, 2):
            break
        density = fit_mixture(others, components, seed, COMPARED_ITERATIONS).score(held_out)
        if density <= highest:
            break
        best, highest = components, density
    return best
