"""The ELBO with free bits: the KL of a latent is not reduced below λ. The loss is at least −ELBO."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob


class Objective(objectives.Objective):
    """reconstruction + Σ_j max(λ, KL_j), KL_j the batch's mean for latent j (Kingma et al. 2016, 1606.04934).

    λ is ``free_nats``. A latent can carry up to λ nats without cost, so that the decoder does not ignore it. If the KL
    is not a sum over latents, λ applies to the total.
    """

    terms = (Term("free_kl", "Σ max(λ, KL)"),)
    loss_terms = ("reconstruction", "free_kl")
    kl_knob: ClassVar = Knob("objective.free_nats", raises_kl=True)

    def __init__(self, spec: Spec, *, free_nats: Annotated[float, Ge(0)] = 0.25) -> None:
        super().__init__()
        self.free_nats = free_nats

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image; ``free_kl`` is the KL as it enters the loss."""
        reconstruction = out.mean_reconstruction
        groups = context.gather(out.kl).mean(0)  # the largest of two means is not a mean over the ranks
        free_kl = groups.clamp(min=self.free_nats).sum()
        loss = reconstruction + free_kl
        return {"loss": loss, "reconstruction": reconstruction, "kl": groups.sum(), "free_kl": free_kl}
