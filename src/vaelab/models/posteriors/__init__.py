"""Posteriors q(z|x), one file each; every file has a class ``Posterior(spec, *, …)``.

A posterior turns the encoder's output into a distribution of codes. Its keyword arguments are the keys of
``[posterior]`` in a recipe.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.models.terms import Term
from vaelab.system.noise import Noise

Gather = Callable[[Float[Tensor, "own ..."]], Float[Tensor, "batch ..."]]
"""Rows of this process → rows of the whole batch, in the order of the batch; gradients flow back."""


class Draw(NamedTuple):
    """Reparameterised samples of q(z|x); gradients flow through them."""

    z: Float[Tensor, "sample batch latent"]
    log_q: Float[Tensor, "sample batch"] | None = None
    """ln q(z|x) if drawing yields it (flows); see ``PosteriorDistribution.log_prob_of``."""


class PosteriorDistribution(ABC):
    """q(z|x) of a batch of images."""

    has_exact_moments: ClassVar[bool] = True
    """Whether ``mean`` and ``log_var`` are the moments of q(z|x), and not approximations."""
    mean: Float[Tensor, "batch latent"]
    """The code that represents an image: the mean of q(z|x)."""
    log_var: Float[Tensor, "batch latent"]
    """Logarithm of the variance of each latent; finite also for a code without noise."""

    @abstractmethod
    def draw(self, noise: Noise, samples: int = 1) -> Draw:
        """Return ``samples`` reparameterised samples per image; the first is the same for any number of samples."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """ln q(z|x), nats."""

    @abstractmethod
    def to(self, device: torch.device) -> "PosteriorDistribution":
        """Return the same distribution on ``device``."""

    def log_prob_of(self, draw: Draw) -> Float[Tensor, "sample batch"]:
        """ln q(z|x) of samples of this distribution, nats."""
        return self.log_prob(draw.z) if draw.log_q is None else draw.log_q

    def kl_to_standard_normal(self) -> Float[Tensor, "batch group"] | None:
        """KL(q ‖ N(0, I)) of each group of latents, nats; None if there is no closed form."""
        return None

    def losses(self) -> Mapping[str, Float[Tensor, ""]]:
        """Terms that are added to the loss, averaged over the batch (``Posterior.loss_terms``)."""
        return {}

    def statistics(self, gather: Gather) -> Mapping[str, Float[Tensor, ""]]:
        """Quantities of the whole batch that are logged and not part of the loss."""
        return {}


class Posterior(nn.Module, ABC):
    """Maps encoder outputs to q(z|x)."""

    provides: ClassVar[frozenset[str]] = frozenset({"continuous_posterior"})
    """Keys of ``vae.REQUIREMENTS`` that it meets."""
    terms: ClassVar[tuple[Term, ...]] = ()
    """Quantities that it logs: its losses, then its statistics, in order."""
    loss_terms: ClassVar[tuple[str, ...]] = ()
    """Names of its losses."""
    num_parameters: int
    """Outputs of the encoder per image: k·latent_dim, or any other number for dense networks only."""

    @abstractmethod
    def forward(self, h: Float[Tensor, "batch parameter"]) -> PosteriorDistribution:
        """Return q(z|x) of the images that the encoder mapped to ``h``."""

    def update(self, q: PosteriorDistribution, noise: Noise, gather: Gather) -> None:
        """Update buffers, such as a codebook, from a training batch, in place and without gradients.

        It is called once per training step, after the samples are drawn. Random numbers come from ``noise`` and rows of
        the whole batch from ``gather``, so that every process makes the same update. No value may be read back to the
        host, because on CUDA the step is a captured graph.
        """


class QuantisedPosterior(Posterior):
    """A posterior whose codes are ``num_positions`` entries of a finite codebook each; q(z|x) is a point mass.

    Its samples have ln q = 0. Priors and samplers of discrete codes use ``indices`` and ``lookup``.
    """

    provides: ClassVar = frozenset({"quantised_posterior"})
    num_positions: int
    num_codes: int
    """Number of entries of the codebook."""

    @abstractmethod
    def indices(self, z: Float[Tensor, "*batch latent"]) -> Int[Tensor, "*batch position"]:
        """Return the codebook entries nearest to ``z``."""

    @abstractmethod
    def lookup(self, indices: Int[Tensor, "*batch position"]) -> Float[Tensor, "*batch latent"]:
        """Return the code of these codebook entries."""
