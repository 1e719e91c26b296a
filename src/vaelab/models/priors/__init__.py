"""Priors p(z), one file each; every file has a class ``Prior(spec, *, …)``.

Its keyword arguments are the recipe's ``[prior]`` keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.posteriors import Draw, NormalNoise, PosteriorDistribution

EncodeBatch = Callable[[Float[Tensor, "batch channel height width"]], PosteriorDistribution]
"""Images → q(z|x), for priors that are mixtures of posteriors."""


class Density(ABC):
    """p(z)."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln p(z), nats."""

    @abstractmethod
    def sample(self, count: int, noise: NormalNoise) -> Float[Tensor, "count latent"]:
        """``count`` codes; all randomness comes from ``noise``."""

    def kl(self, q: PosteriorDistribution, draw: Draw) -> Float[Tensor, "batch group"]:
        """KL(q ‖ p) of each image and group, nats; the mean of ln q − ln p over the samples drawn unless overridden."""
        log_q = q.log_prob(draw.z) if draw.log_q is None else draw.log_q
        return (log_q - self.log_prob(draw.z)).mean(0)[:, None]


class Prior(nn.Module, ABC):
    """Holds the parameters of p(z) and returns it as a density."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """Properties that objectives and metrics may need (``vae.REQUIREMENTS``)."""

    @abstractmethod
    def forward(self, encode: EncodeBatch) -> Density:
        """p(z); ``encode`` is the model's own encoder."""
