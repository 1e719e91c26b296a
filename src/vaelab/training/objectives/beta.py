"""The β-VAE objective. With β ≠ 1, or while β warms up, it is not the negative ELBO."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.schedules import linear_warmup


def choose_beta(spec: Spec) -> float:
    """Return β in proportion to the number of pixels, 1 for 64×64.

    If an image is enlarged, its squared error grows with the number of pixels and the information in its code does not;
    this keeps their balance.
    """
    return float(f"{spec.image_shape[1] * spec.image_shape[2] / 64**2:.2g}")


class Objective(objectives.Objective):
    """reconstruction + β·KL (Higgins et al., ICLR 2017, equation 4).

    The weight of the KL rises linearly to β over the first ``warmup_steps`` steps.
    """

    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        beta: Annotated[float, Ge(0), Auto(choose_beta)] = 4.0,
        warmup_steps: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.beta = self.kl_weight = beta
        self.warmup_steps = warmup_steps
        if beta != 1 or warmup_steps > 1:  # otherwise the loss is that of elbo
            self.terms = (Term("beta_kl", "β·KL"),)
        self.loss_terms = ("reconstruction", "beta_kl" if self.terms else "kl")

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image; ``beta_kl`` is the KL times its weight at this step."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        beta_kl = self.beta * linear_warmup(context.step, self.warmup_steps) * kl
        terms = {"loss": reconstruction + beta_kl, "reconstruction": reconstruction, "kl": kl}
        return {**terms, "beta_kl": beta_kl} if self.terms else terms
