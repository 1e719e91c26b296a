"""The capacity-annealed VAE, whose KL follows a growing target. Its loss is not an evidence lower bound."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.schedules import linear_capacity


class Objective(objectives.Objective):
    """reconstruction + γ·|KL − C| with the mean KL of the batch and a capacity C (Burgess et al. 2018, 1804.03599).

    C rises linearly from 0 to ``max_capacity`` nats over ``warmup_steps``, by default 100,000 as in the paper. Set
    fewer steps for a shorter training.
    """

    terms = (Term("capacity", "capacity C"), Term("kl_gap", "|KL − C|"))
    kl_knob: ClassVar = Knob("objective.max_capacity", raises_kl=True)

    def __init__(
        self,
        spec: Spec,
        *,
        gamma: Annotated[float, Ge(0)] = 1000.0,
        max_capacity: Annotated[float, Ge(0)] = 25.0,
        warmup_steps: Annotated[int, Ge(0)] = 100_000,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.max_capacity = max_capacity
        self.warmup_steps = warmup_steps

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image: ``capacity`` is C at this step, ``kl_gap`` is |KL − C|."""
        reconstruction = out.mean_reconstruction
        kl = context.gather(out.kl.sum(1)).mean()  # |mean − C| is not a mean over the ranks
        capacity = linear_capacity(context.step, self.max_capacity, self.warmup_steps).to(kl.dtype)
        gap = (kl - capacity).abs()
        loss = reconstruction + self.gamma * gap
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "capacity": capacity, "kl_gap": gap}
