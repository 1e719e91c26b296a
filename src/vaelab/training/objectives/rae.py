"""The regularised autoencoder. Its loss is not an evidence lower bound, and it has no prior to sample from."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob


class Objective(objectives.Objective):
    """reconstruction + β/2·|z|² + λ·|decoder weights|² (RAE-L2; Ghosh et al. 2020, 1903.12436, equations 6 and 8).

    λ is ``weight_penalty``. Codes are not regularised towards the prior: draw samples with a fitted sampler. Use the
    posterior constant_variance; a learned variance would shrink towards 0.
    """

    terms = (Term("code_penalty", "β/2·|z|²", unit=""), Term("weight_penalty", "λ·|weights|²", unit=""))
    loss_unit: ClassVar = ""
    loss_terms = ("reconstruction", "code_penalty", "weight_penalty")
    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)

    def __init__(
        self, spec: Spec, *, beta: Annotated[float, Ge(0)] = 0.01, weight_penalty: Annotated[float, Ge(0)] = 1e-6
    ) -> None:
        super().__init__()
        self.beta, self.weight_penalty = beta, weight_penalty

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; the KL is only logged."""
        reconstruction = out.mean_reconstruction
        code_penalty = self.beta / 2 * out.z.square().sum(-1).mean()
        squares = torch.stack([parameter.square().sum() for parameter in context.vae.decoder.parameters()])
        weight_penalty = self.weight_penalty * squares.sum()
        return {
            "loss": reconstruction + code_penalty + weight_penalty,
            "reconstruction": reconstruction,
            "kl": out.mean_kl,
            "code_penalty": code_penalty,
            "weight_penalty": weight_penalty,
        }
