"""Normal pixels with the standard deviation that suits the reconstructions best (σ-VAE), mean from a sigmoid."""

import math
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.likelihoods.learned_gaussian import MIN_LOG_SIGMA, FreeNormalPixels
from vaelab.models.spec import Spec


class Likelihood(nn.Module):
    """Normal likelihood with the σ² at which ln p(x|z) is largest: the mean squared error (2006.13202, equation 6).

    In training it is that of each batch, all pixels of all images; no gradient needs to flow through it, for ln p is
    flat in σ there. Whenever the model does not train, σ² is what it was fitted to last: the last batch, and of a
    trained model all training images. So the density of an image never depends on those beside it. σ ≥ ``floor``, by
    default e⁻⁶.
    """

    channels_per_pixel = 1
    variance: Tensor

    def __init__(self, spec: Spec, *, floor: Annotated[float, Gt(0)] = math.exp(MIN_LOG_SIGMA)) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("variance", torch.tensor(max(0.5, floor**2)))

    @torch.no_grad()
    def statistic(
        self, decoded: Float[Tensor, "batch channel height width"], x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, " batch"]:
        """Mean squared error of each image."""
        return ((x - torch.sigmoid(decoded)) ** 2).mean((-3, -2, -1))

    @torch.no_grad()
    def fit(self, statistics: Float[Tensor, " batch"]) -> None:
        """σ² from the mean squared errors of images, in place."""
        self.variance.copy_(statistics.double().mean().clamp(min=self.floor**2))

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> FreeNormalPixels:
        """The distribution of the pixels, given what the decoder returned."""
        return FreeNormalPixels(torch.sigmoid(decoded), self.variance.log() / 2)
