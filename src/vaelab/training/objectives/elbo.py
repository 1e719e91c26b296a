"""The negative evidence lower bound, without the likelihood's constant."""

from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context


class Objective(objectives.Objective):
    """reconstruction + KL (Kingma & Welling 2014, 1312.6114, equation 7, with one sample and the KL in closed form)."""

    loss_terms = ("reconstruction", "kl")
    kl_weight = 1.0

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
