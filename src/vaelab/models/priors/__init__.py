"""Priors p(z), one file each; every file has a class ``Prior(spec, *, …)``.

Its keyword arguments are the keys of ``[prior]`` in a recipe.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.posteriors import Draw, Posterior, PosteriorDistribution
from vaelab.system.noise import Noise


@runtime_checkable
class InferenceModel(Protocol):
    """The inference side of a VAE, for priors that depend on it."""

    posterior: Posterior

    def encode_batch(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> PosteriorDistribution:
        """q(z|x), with gradients; the component of a mixture of posteriors (VampPrior)."""


class Density(ABC):
    """p(z)."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln p(z), nats."""

    @abstractmethod
    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Return ``count`` codes; all random numbers come from ``noise``."""

    def closed_kl(self, q: PosteriorDistribution) -> Float[Tensor, "batch group"] | None:
        """KL(q ‖ p) of each image and group of latents, nats; None if there is no closed form."""
        return None

    def kl(self, q: PosteriorDistribution, draw: Draw) -> Float[Tensor, "batch group"]:
        """KL(q ‖ p) of each image and group, nats; without a closed form, the mean of ln q − ln p over the samples."""
        closed = self.closed_kl(q)
        return (q.log_prob_of(draw) - self.log_prob(draw.z)).mean(0)[:, None] if closed is None else closed


class Prior(nn.Module, ABC):
    """Holds the parameters of p(z) and returns it as a density."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """Keys of ``vae.REQUIREMENTS`` that it meets."""
    needs: ClassVar[frozenset[str]] = frozenset({"continuous_posterior"})
    """Keys of ``vae.REQUIREMENTS`` that the posterior must meet."""

    @abstractmethod
    def forward(self, model: InferenceModel) -> Density:
        """Return p(z) of the model that this prior is a part of."""
