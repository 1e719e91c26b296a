"""The DIP-VAE objective: the covariance of a batch's codes is drawn to the prior's. Not an evidence lower bound."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.models.spec import Spec
from vaelab.models.vae import VAE


def code_covariance(
    mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"] | None = None
) -> Float[Tensor, "latent latent"]:
    """Covariance over a batch of the posterior means (1/B), or, given log-variances, of the codes themselves.

    Cov[z] = Cov[μ] + E[diag σ²]. In float64: matrix products of float32 numbers may be rounded to bfloat16 or TF32.
    """
    centred = mean.double() - mean.double().mean(0)
    covariance = centred.T @ centred / len(mean)
    if log_var is not None:
        covariance = covariance + torch.diag(log_var.double().exp().mean(0))
    return covariance.to(mean.dtype)


def covariance_penalties(
    mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_{i≠j} C_ij² and Σ_i (C_ii − 1)², C the covariance of means or, given log-variances, of codes.

    Each pair of latents counts twice in the first (Kumar et al. 2018, 1711.00848).
    """
    covariance = code_covariance(mean, log_var)
    variances = covariance.diagonal()
    return (covariance - torch.diag(variances)).square().sum(), (variances - 1).square().sum()


class Objective(nn.Module):
    """reconstruction + KL + λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)² (Kumar et al. 2018, 1711.00848).

    C is the batch's covariance of posterior means (``kind`` I) or of codes (II). ``off_diagonal`` is λ_od; ``diagonal``
    is λ_d: the paper takes λ_od for II, and 10·λ_od for I.
    """

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

    def forward(
        self, vae: VAE, x: Float[Tensor, "batch channel height width"], step: Int[Tensor, ""]
    ) -> dict[str, Tensor]:
        """Loss and terms, nats per image; ``dip_off_diagonal`` and ``dip_diagonal`` are the sums without their λ."""
        passed = vae(x)
        reconstruction, kl = passed.reconstruction.mean(), passed.kl.sum(1).mean()
        mean = vae.gather(passed.posterior.mean)
        log_var = vae.gather(passed.posterior.log_var) if self.kind == "II" else None
        off_diagonal, diagonal = covariance_penalties(mean, log_var)
        return {
            "loss": reconstruction + kl + self.off_diagonal * off_diagonal + self.diagonal * diagonal,
            "reconstruction": reconstruction,
            "kl": kl,
            "dip_off_diagonal": off_diagonal,
            "dip_diagonal": diagonal,
        }
