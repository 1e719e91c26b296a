"""Reconstruction by multi-scale structural similarity. Its loss is not an evidence lower bound."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.system.device import disable_tf32, no_autocast
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob

SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the Gaussian windows, in pixels (1511.08861, section 4)."""
C1, C2 = 0.01**2, 0.03**2

Pictures = Float[Tensor, "n channel height width"]


def make_window(side: int, sigma: float, like: Tensor) -> Float[Tensor, "{side} {side}"]:
    """Return the Gaussian window around each of ``side`` pixels as rows that add up to 1, also near the border."""
    place = torch.arange(side, dtype=like.dtype, device=like.device)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


def smooth(images: Pictures, sigma: float) -> Pictures:
    """Return the weighted mean of the window around each pixel."""
    height, width = images.shape[2:]
    return make_window(height, sigma, images) @ images @ make_window(width, sigma, images).T


def ms_ssim_map(x: Pictures, y: Pictures, sigmas: Sequence[float] = SIGMAS) -> Pictures:
    """Return the multi-scale structural similarity around each pixel, l_M Π_j cs_j (1511.08861, equation 7)."""
    similarity = torch.ones_like(x)
    for sigma in sigmas:
        mean_x, mean_y, square_x, square_y, product = (smooth(z, sigma) for z in (x, y, x * x, y * y, x * y))
        variances = square_x - mean_x**2 + square_y - mean_y**2
        similarity = similarity * (2 * (product - mean_x * mean_y) + C2) / (variances + C2)
    luminance: Tensor = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return similarity * luminance


class Objective(objectives.Objective):
    """D·[α·(1 − MS-SSIM) + (1 − α)·G·|x − x̂|] + β·KL (Zhao et al. 2017, 1511.08861, equation 10; ``mix`` is α).

    The scales are Gaussian windows of five widths on the expected image x̂, and G is the widest one. The mean over the
    D values of an image is multiplied by D, so that it grows with the image as the squared error does.
    """

    terms = (Term("dissimilarity", "dissimilarity", unit=""), Term("beta_kl", "β·KL"))
    loss_unit: ClassVar = ""
    loss_terms = ("dissimilarity", "beta_kl")
    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        mix: Annotated[float, Ge(0), Le(1)] = 0.84,
        beta: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.mix, self.beta = mix, beta

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; the reconstruction loss of the likelihood is only logged."""
        decoded = out.p_x.mean.float()
        x = batch.x.float().expand_as(decoded).flatten(0, 1)
        with no_autocast(x.device), disable_tf32():  # variances are differences of large numbers
            y = decoded.flatten(0, 1)
            structure = 1 - ms_ssim_map(x, y)
            each = self.mix * structure + (1 - self.mix) * smooth((x - y).abs(), SIGMAS[-1])
            dissimilarity = each.sum((1, 2, 3)).mean()
        kl = out.mean_kl
        beta_kl = self.beta * kl
        return {
            "loss": dissimilarity + beta_kl,
            "reconstruction": out.mean_reconstruction,
            "kl": kl,
            "dissimilarity": dissimilarity,
            "beta_kl": beta_kl,
        }
