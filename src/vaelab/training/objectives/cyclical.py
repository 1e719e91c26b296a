"""The β-VAE objective with cyclical annealing. While the weight of the KL rises, it is not an evidence lower bound."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.objectives.beta import choose_beta
from vaelab.training.schedules import cyclical_warmup


class Objective(objectives.Objective):
    """reconstruction + β·KL, with a warm-up of β in each of several cycles (Fu et al. 2019, 1903.10145).

    The weight of the KL rises linearly from 0 to β in the first half of each cycle of ``cycle_steps`` steps. It stays
    at β in the second half, and after the last of the ``cycles``.
    """

    terms = (Term("beta_kl", "β·KL"),)
    loss_terms = ("reconstruction", "beta_kl")
    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        beta: Annotated[float, Ge(0), Auto(choose_beta)] = 1.0,
        cycles: Annotated[int, Ge(1)] = 4,
        cycle_steps: Annotated[int, Ge(2)] = 1000,
    ) -> None:
        super().__init__()
        self.beta = self.kl_weight = beta
        self.cycles, self.cycle_steps = cycles, cycle_steps
        self.warmup_steps = cycles * cycle_steps - cycle_steps // 2

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image; ``beta_kl`` is the KL times its weight at this step."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        beta_kl = self.beta * cyclical_warmup(context.step, self.cycles, self.cycle_steps) * kl
        return {"loss": reconstruction + beta_kl, "reconstruction": reconstruction, "kl": kl, "beta_kl": beta_kl}
