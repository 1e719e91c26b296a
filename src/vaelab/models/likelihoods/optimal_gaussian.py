"""Normal pixels with the standard deviation that maximises ln p(x|z) (σ-VAE) and means from a sigmoid."""

import math
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from vaelab.models import likelihoods
from vaelab.models.likelihoods.learned_gaussian import MIN_LOG_SIGMA, FreeNormalPixels
from vaelab.models.spec import Spec
from vaelab.system.device import widest_float


class Likelihood(likelihoods.Calibrated):
    """Normal likelihood with the σ² that maximises ln p(x|z): the mean squared error (2006.13202, equation 6).

    In training it is the mean squared error of each batch, over all pixels. No gradient flows through it, because the
    derivative of ln p with respect to σ is 0 there. After training it is that of all training images, so the density of
    an image never depends on the rest of its batch. σ is at least ``floor``.
    """

    variance: Tensor

    def __init__(self, spec: Spec, *, floor: Annotated[float, Gt(0)] = math.exp(MIN_LOG_SIGMA)) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("variance", torch.tensor(max(0.5, floor**2)))

    @torch.no_grad()
    def calibration_statistic(
        self, decoded: Float[Tensor, "*batch channel height width"], x: Float[Tensor, "*#batch channel height width"]
    ) -> Float[Tensor, "*batch"]:
        """Return the mean squared error of each image."""
        return ((x - torch.sigmoid(decoded)) ** 2).mean((-3, -2, -1))

    @torch.no_grad()
    def calibrate(self, statistics: Float[Tensor, " image"]) -> None:
        """Set σ² to the mean of the mean squared errors of images, at least ``floor``²."""
        self.variance.copy_(statistics.to(widest_float(statistics.device)).mean().clamp(min=self.floor**2))

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> FreeNormalPixels:
        """Return the distribution around the sigmoid of ``decoded``."""
        return FreeNormalPixels(torch.sigmoid(decoded), self.variance.log() / 2)
