"""Likelihoods p(x|z), one file each; every file has a class ``Likelihood(spec, *, …)``.

A likelihood contains the link function: it turns the unbounded outputs of the decoder into a distribution over images.
Its keyword arguments are the keys of ``[likelihood]`` in a recipe.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class PixelDistribution(Protocol):
    """A distribution over images; ``*batch`` stands for all axes before ``[C, H, W]``."""

    @property
    def mean(self) -> Tensor:
        """Expected image ``[*batch, C, H, W]``."""

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x|z), normalised, nats per image ``[*batch]``."""

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """−ln p(x|z) up to a constant, nats per image ``[*batch]``; may be negative."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw images ``[*batch, C, H, W]``."""


class Likelihood(nn.Module, ABC):
    """Maps decoder outputs to p(x|z)."""

    channels_per_pixel: int = 1
    """Number of decoder channels per image channel."""
    is_discrete: ClassVar[bool] = False
    """Whether ``log_prob`` is a probability of grey levels, so that bits per dimension are defined."""
    wants_binary: ClassVar[bool] = False
    """Whether ``log_prob`` is a likelihood of binary images only."""
    fixed_variance: float | None = None
    """Variance of normal pixels, if it is a constant."""

    @abstractmethod
    def forward(self, decoded: Float[Tensor, "*batch decoder_channel height width"]) -> PixelDistribution:
        """Return p(x|z) for the outputs of the decoder."""


class Calibrated(Likelihood):
    """A likelihood with a buffer that is computed from images, such as the optimal σ.

    It is calibrated to every training batch, and to all training images after training; it does not change otherwise.
    """

    @abstractmethod
    def calibration_statistic(
        self,
        decoded: Float[Tensor, "*batch decoder_channel height width"],
        x: Float[Tensor, "*#batch channel height width"],
    ) -> Float[Tensor, "*batch"]:
        """Return the number per image that ``calibrate`` needs, without gradients."""

    @abstractmethod
    def calibrate(self, statistics: Float[Tensor, " image"]) -> None:
        """Set the buffer in place from the statistics of many images, without gradients."""
