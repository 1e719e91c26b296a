"""Likelihoods p(x|z), one file each; every file has a class ``Likelihood(spec, *, …)``.

A likelihood owns the link function: it turns the decoder's unbounded output into a distribution over images. Its
keyword arguments are the recipe's ``[likelihood]`` keys.
"""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class PixelDistribution(Protocol):
    """A distribution over images; ``*batch`` is whatever leads ``[C, H, W]``."""

    @property
    def mean(self) -> Tensor:
        """Expected image ``[*batch, C, H, W]``."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Normalised log density or probability, nats per image ``[*batch]``."""

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """−``log_prob`` up to a constant, nats per image ``[*batch]``; it may be negative."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Random images ``[*batch, C, H, W]``."""


class Likelihood(nn.Module, ABC):
    """Maps decoder outputs to p(x|z)."""

    channels_per_pixel: int = 1
    """Decoder channels that each image channel needs."""
    is_discrete: bool = False
    """Whether ``log_prob`` is a probability of grey levels, from which bits per dimension follow."""
    wants_binary: bool = False
    """Whether ``log_prob`` is a likelihood of black-or-white images only."""

    @abstractmethod
    def forward(self, decoded: Float[Tensor, "*batch decoder_channel height width"]) -> PixelDistribution:
        """p(x|z) of the images that the decoder mapped to ``decoded``."""


class Calibrated(Likelihood):
    """A likelihood with a buffer that is computed from images instead of learned, such as an optimal σ.

    It is calibrated to every batch in training and to all training images at the end, and changes at no other time.
    """

    @abstractmethod
    def calibration_statistic(
        self,
        decoded: Float[Tensor, "*batch decoder_channel height width"],
        x: Float[Tensor, "*#batch channel height width"],
    ) -> Float[Tensor, "*batch"]:
        """What ``calibrate`` needs to know of each image; no gradient."""

    @abstractmethod
    def calibrate(self, statistics: Float[Tensor, " image"]) -> None:
        """Set the buffer in place from the statistics of many images; no gradient."""
