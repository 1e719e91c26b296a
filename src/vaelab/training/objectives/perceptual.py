"""Reconstruction of pixels and of Gabor energies at several scales. Its loss is not an evidence lower bound."""

import math
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vaelab.data.tensors import Batch
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.system.device import disable_tf32, no_autocast
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.objectives.beta import choose_beta

SIDE, WAVELENGTH, SIGMA = 7, 4.0, 1.75
"""Pixels of a filter, of a period of its wave, and of the standard deviation of its window."""
ORIENTATIONS = 4
FLOOR = 1e-3
"""Energy of a constant region, so that the square root has a gradient."""

Pictures = Float[Tensor, "n channel height width"]


def make_filters() -> Float[Tensor, "filter 1 side side"]:
    """Return even, then odd Gabor filters of each orientation, with sum 0 and norm 1."""
    place = torch.arange(SIDE, dtype=torch.float32) - SIDE // 2
    angle = torch.arange(ORIENTATIONS)[:, None, None] * (math.pi / ORIENTATIONS)
    along = 2 * math.pi / WAVELENGTH * (angle.cos() * place + angle.sin() * place[:, None])
    window = torch.exp(-(place**2 + place[:, None] ** 2) / (2 * SIGMA**2))
    filters = torch.cat([window * along.cos(), window * along.sin()])
    filters = filters - window * (filters.sum((1, 2), keepdim=True) / window.sum())
    return (filters / filters.square().sum((1, 2), keepdim=True).sqrt())[:, None]


class _Energies(torch.autograd.Function):
    """Energies of grey images for even, then odd filters.

    The backward pass is a grouped convolution. On a CPU that is several times as fast as PyTorch's transposed
    convolution to one channel.
    """

    @staticmethod
    def forward(ctx: Any, images: Pictures, filters: Tensor) -> Tensor:
        found = F.conv2d(images, filters)
        found = found.view(len(images), 2, -1, *found.shape[2:])
        even, odd = found.unbind(1)
        energies: Tensor = even.square().addcmul_(odd, odd).add_(FLOOR**2).sqrt_()
        ctx.save_for_backward(found, energies, filters)
        return energies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        found, energies, filters = ctx.saved_tensors
        gradient = (found * (gradient / energies)[:, None]).flatten(1, 2)
        spread = F.conv2d(gradient, filters.flip(2, 3), padding=SIDE - 1, groups=len(filters))
        return spread.sum(1, keepdim=True), None


def gabor_energies(images: Pictures, filters: Float[Tensor, "filter 1 side side"]) -> list[Tensor]:
    """Return the energies ``[n, C, orientation, h, w]`` of each scale: the root of the squares of even and odd filters.

    The energy of a grating does not depend on its phase (Adelson & Bergen 1985). Every scale has half the sides of the
    one before, by averaging, while a filter fits.
    """
    channels, scales = images.shape[1], []
    while min(images.shape[2:]) >= SIDE:
        grey = images.flatten(0, 1)[:, None]
        energies: Tensor = _Energies.apply(grey, filters)  # type: ignore[no-untyped-call]
        scales.append(energies.view(-1, channels, *energies.shape[1:]))
        images = F.avg_pool2d(images, 2)
    return scales


class Objective(objectives.Objective):
    """reconstruction + λ·D·energies + β·KL, with energies of fixed Gabor filters (``weight`` is λ, D values an image).

    ``perceptual`` is λ·D times the mean squared difference of Gabor energies between image and expected image, averaged
    over orientations, places and scales. It replaces the features of a pretrained network (Johnson et al. 2016,
    1603.08155; Hou et al. 2017, 1610.00291), which vaelab does not download. The fixed filters respond to edges and
    texture in four orientations, but not to objects. Energies do not depend on the exact position of an edge, so
    unpredictable texture is not averaged away. They are insensitive to brightness and to the sign of an edge, which
    the pixels cover.
    """

    terms = (Term("perceptual", "λ·distance of energies", unit=""), Term("beta_kl", "β·KL"))
    loss_unit: ClassVar = ""
    loss_terms = ("reconstruction", "perceptual", "beta_kl")
    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)
    filters: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        beta: Annotated[float, Gt(0), Auto(choose_beta)] = 1.0,
    ) -> None:
        super().__init__()
        self.weight, self.beta = weight, beta
        self.register_buffer("filters", make_filters(), persistent=False)

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; ``perceptual`` has no unit, and is 0 for images below 7 pixels."""
        decoded = out.p_x.mean.float()
        with no_autocast(decoded.device), disable_tf32():
            ours = gabor_energies(decoded.flatten(0, 1), self.filters)
            real = gabor_energies(batch.x.float(), self.filters)
        samples = len(decoded)
        each = [
            F.mse_loss(y.view(samples, *x.shape), x.expand(samples, *x.shape)) for x, y in zip(real, ours, strict=True)
        ]
        distance = torch.stack(each).mean() if each else decoded.new_zeros(())
        perceptual = self.weight * decoded[0, 0].numel() * distance
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        beta_kl = self.beta * kl
        return {
            "loss": reconstruction + perceptual + beta_kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "perceptual": perceptual,
            "beta_kl": beta_kl,
        }
