"""The Wasserstein autoencoder with a maximum mean discrepancy. Its loss is not an evidence lower bound."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Auto, Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.objectives.info import Kernel, choose_scaling, mmd_squared


class Objective(objectives.Objective):
    """reconstruction + λ·MMD²(q(z), p(z)) (WAE-MMD; Tolstikhin et al. 2018, 1711.01558, algorithm 2).

    The MMD is unbiased, between the codes of a batch and as many draws from the prior; that of one image counts as 0.
    ``scaling`` is λ, which has to grow with the size of the images, as "auto" does. The encoder of the paper is
    deterministic: use the posterior constant_variance. With other posteriors it is info with α = 1.
    """

    terms = (Term("mmd", "MMD²", unit=""),)
    loss_unit: ClassVar = ""
    kl_knob: ClassVar = Knob("objective.scaling", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        scaling: Annotated[float, Ge(0), Auto(choose_scaling)] = 10.0,
        kernel: Kernel = "imq",
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.kernel: Kernel = kernel

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; ``mmd`` is the MMD² of the batch without its weight, the KL only logged."""
        prior = context.gather(out.prior.sample(len(batch.x), context.noise).to(out.z.dtype))
        codes = context.gather(out.z[0])
        mmd = mmd_squared(codes, prior, self.kernel) if len(codes) > 1 else codes.new_zeros(())
        reconstruction = out.mean_reconstruction
        return {
            "loss": reconstruction + self.scaling * mmd,
            "reconstruction": reconstruction,
            "kl": out.mean_kl,
            "mmd": mmd,
        }
