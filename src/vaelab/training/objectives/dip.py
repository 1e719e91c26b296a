"""The DIP-VAE objective, which penalises the covariance of codes. Its loss is not an evidence lower bound."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.system.device import widest_float
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob


def code_covariance(
    mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"] | None = None
) -> Float[Tensor, "latent latent"]:
    """Return the covariance (1/B) of posterior means; with log-variances, that of codes, Cov[μ] + E[diag σ²].

    Computed in float64, because matrix products in float32 may be rounded to bfloat16 or TF32.
    """
    mean_wide = mean.to(wide := widest_float(mean.device))
    centred = mean_wide - mean_wide.mean(0)
    covariance = centred.T @ centred / len(mean)
    if log_var is not None:
        covariance = covariance + torch.diag(log_var.to(wide).exp().mean(0))
    return covariance.to(mean.dtype)


def covariance_penalties(
    mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return Σ_{i≠j} C_ij² and Σ_i (C_ii − 1)², C the covariance of means or, with log-variances, of codes.

    Each pair of latents counts twice in the first sum (Kumar et al. 2018, 1711.00848).
    """
    covariance = code_covariance(mean, log_var)
    variances = covariance.diagonal()
    return (covariance - torch.diag(variances)).square().sum(), (variances - 1).square().sum()


class Objective(objectives.Objective):
    """reconstruction + KL + λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)² (Kumar et al. 2018, 1711.00848).

    C is the covariance over the batch of posterior means (``kind`` I) or of codes (II). ``off_diagonal`` is λ_od and
    ``diagonal`` is λ_d. In the paper λ_d is λ_od for II and 10·λ_od for I.
    """

    needs: ClassVar = frozenset({"diagonal_posterior", "standard_normal_prior"})
    terms = (
        Term("dip_off_diagonal", "off-diagonal penalty", unit=""),
        Term("dip_diagonal", "diagonal penalty", unit=""),
    )
    loss_unit: ClassVar = ""
    kl_knob: ClassVar = Knob("objective.diagonal", raises_kl=True)

    def __init__(
        self,
        spec: Spec,
        *,
        kind: Literal["I", "II"] = "II",
        off_diagonal: Annotated[float, Ge(0)] = 10.0,
        diagonal: Annotated[float, Ge(0)] = 10.0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.off_diagonal = off_diagonal
        self.diagonal = diagonal

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; ``dip_off_diagonal`` and ``dip_diagonal`` are the sums without weights."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        mean = context.gather(out.q.mean)
        log_var = context.gather(out.q.log_var) if self.kind == "II" else None
        off_diagonal, diagonal = covariance_penalties(mean, log_var)
        return {
            "loss": reconstruction + kl + self.off_diagonal * off_diagonal + self.diagonal * diagonal,
            "reconstruction": reconstruction,
            "kl": kl,
            "dip_off_diagonal": off_diagonal,
            "dip_diagonal": diagonal,
        }
