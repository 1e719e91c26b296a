"""Posteriors q(z|x), one file each; every file has a class ``Posterior(spec, *, …)``.

A posterior turns the encoder's output into a distribution of codes. Its keyword arguments are the recipe's
``[posterior]`` keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class NormalNoise(Protocol):
    """A source of standard normal numbers; ``system.seeds.Noise`` is one."""

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, *shape]``, float32, on the model's device."""


class Draw(NamedTuple):
    """Reparameterised samples of q(z|x); gradients flow through them."""

    z: Float[Tensor, "sample batch latent"]
    log_q: Float[Tensor, "sample batch"] | None = None
    """ln q(z|x), where it is known from drawing (flows); otherwise ``PosteriorDistribution.log_prob`` computes it."""


class PosteriorDistribution(ABC):
    """q(z|x) of a batch of images."""

    mean: Float[Tensor, "batch latent"]
    """Posterior mean, the code that stands for an image."""
    log_var: Float[Tensor, "batch latent"]
    """Logarithm of the variance of each latent."""

    @abstractmethod
    def draw(self, noise: NormalNoise, samples: int = 1) -> Draw:
        """``samples`` reparameterised samples for each image; the first is the one that ``samples = 1`` draws."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """ln q(z|x), nats."""

    @abstractmethod
    def to(self, device: torch.device) -> "PosteriorDistribution":
        """The same distribution with its tensors on ``device``."""

    def kl_to_standard_normal(self) -> Float[Tensor, "batch group"] | None:
        """KL(q ‖ N(0, I)) of each group in nats, where there is a closed form."""
        return None

    def losses(self) -> Mapping[str, Tensor]:
        """Named terms that the posterior adds to the loss, nats per image averaged over the batch."""
        return {}


class Posterior(nn.Module, ABC):
    """Maps encoder outputs to q(z|x)."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """Properties that objectives and metrics may need (``vae.REQUIREMENTS``)."""
    num_parameters: int
    """Numbers per image that the encoder must return."""

    @abstractmethod
    def forward(self, h: Float[Tensor, "batch parameter"]) -> PosteriorDistribution:
        """q(z|x) of the images that the encoder mapped to ``h``."""
