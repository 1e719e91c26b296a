"""The negative evidence lower bound, without the likelihood's constant."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.models.spec import Spec
from vaelab.models.vae import VAE

KL_WEIGHT = 1.0


class Objective(nn.Module):
    """reconstruction + KL (Kingma & Welling 2014, 1312.6114, equation 7, with one sample and the KL in closed form)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(
        self, vae: VAE, x: Float[Tensor, "batch channel height width"], step: Int[Tensor, ""]
    ) -> dict[str, Tensor]:
        """Loss and terms, nats per image."""
        passed = vae(x)
        reconstruction, kl = passed.reconstruction.mean(), passed.kl.sum(1).mean()
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
