"""The InfoVAE objective with a maximum mean discrepancy. Its loss is not an evidence lower bound."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.system.errors import RecipeError
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob

Kernel = Literal["imq", "rbf"]
Estimator = Literal["unbiased", "biased"]

SCALES: dict[Kernel, tuple[float, ...]] = {"imq": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0), "rbf": (1.0,)}
"""Widths r of the kernels, in units of 2d: the mean squared distance of two draws from the prior."""

_OF_DISTANCE: dict[Kernel, Callable[[Tensor, float], Tensor]] = {
    "imq": lambda squared, width: width / (width + squared),
    "rbf": lambda squared, width: torch.exp(-squared / width),
}


def choose_scaling(spec: Spec) -> float:
    """Return λ in proportion to the values of an image, as the squared error that it is added to; 10 for 28×28×1."""
    return float(f"{10 * spec.num_pixels / 28**2:.2g}")


def mmd_squared(
    a: Float[Tensor, "some latent"],
    b: Float[Tensor, "others latent"],
    kernel: Kernel = "imq",
    estimator: Estimator = "unbiased",
    scales: Sequence[float] | None = None,
) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy of two samples, E k(a, a′) + E k(b, b′) − 2 E k(a, b), without unit.

    The kernel is "imq", Σ_r C_r/(C_r + |a − b|²), or "rbf", Σ_r exp(−|a − b|²/C_r). Here C_r = r·2d with r from
    ``scales`` (default: SCALES), for a prior N(0, I) in d dimensions (Tolstikhin et al. 2018, 1711.01558). The
    "unbiased" estimator leaves out the distance of a point to itself and may be negative. The "biased" one is at least
    0 (Gretton et al. 2012, section 2.2). Raises ValueError for "unbiased" with fewer than two points on a side.
    """
    if estimator == "unbiased" and min(len(a), len(b)) < 2:
        raise ValueError(f"an unbiased MMD² needs two points on each side; got {len(a)} and {len(b)}")
    widths = [2 * a.shape[1] * scale for scale in (SCALES[kernel] if scales is None else scales)]

    def similarities(p: Tensor, q: Tensor) -> Tensor:
        # as differences: |p|² + |q|² − 2p·q cancels, and its product may be rounded to bfloat16 or TF32
        squared = torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.stack([_OF_DISTANCE[kernel](squared, width) for width in widths]).sum(0)

    def within(points: Tensor) -> Tensor:
        if estimator == "biased":
            return similarities(points, points).mean()
        found, count = similarities(points, points), len(points)
        return (found.sum() - found.diagonal().sum()) / (count * (count - 1))

    return within(a) + within(b) - 2 * similarities(a, b).mean()


class Objective(objectives.Objective):
    """reconstruction + (1 − α)·KL + (α + λ − 1)·MMD²(q(z), p(z)) (Zhao et al. 2019, 1706.02262; ``scaling`` is λ).

    The MMD is between the codes of a batch, one per image, and as many draws from the prior. With ``alpha`` = 1 this is
    the MMD-VAE. λ has to grow with the size of the images, as "auto" does. The unbiased MMD of one image counts as 0.
    """

    terms = (Term("mmd", "MMD²", unit=""),)
    loss_unit: ClassVar = ""
    kl_knob: ClassVar = Knob("objective.scaling", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        alpha: Annotated[float, Le(1)] = 1.0,
        scaling: Annotated[float, Ge(0), Auto(choose_scaling)] = 10.0,
        kernel: Kernel = "imq",
        estimator: Estimator = "unbiased",
    ) -> None:
        super().__init__()
        if alpha + scaling < 1:
            values = f"objective.alpha = {alpha:g} and objective.scaling = {scaling:g}"
            message = f"{values} reward a distance from the prior; their sum must be at least 1"
            raise RecipeError(message, subject="objective.alpha", value=alpha)
        self.alpha = alpha
        self.scaling = scaling
        self.kernel: Kernel = kernel
        self.estimator: Estimator = estimator

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image; ``mmd`` is the MMD² of the batch without its weight."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        prior = context.gather(out.prior.sample(len(batch.x), context.noise).to(out.z.dtype))
        codes = context.gather(out.z[0])
        exists = self.estimator == "biased" or len(codes) > 1
        mmd = mmd_squared(codes, prior, self.kernel, self.estimator) if exists else codes.new_zeros(())
        loss = reconstruction + (1 - self.alpha) * kl + (self.alpha + self.scaling - 1) * mmd
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "mmd": mmd}
