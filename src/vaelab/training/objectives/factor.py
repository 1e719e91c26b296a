"""The FactorVAE objective: the total correlation is estimated by a discriminator that is trained with the model."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Len, Lt
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaelab.data.tensors import Batch
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.system.device import no_autocast
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob

SLOPE = 0.2
"""Negative slope of the discriminator's leaky ReLU."""

Betas = Annotated[list[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)]
Logits = Float[Tensor, "batch 2"]


def make_discriminator(latent_dim: int, hidden: int, layers: int) -> nn.Sequential:
    """Return ``layers`` hidden layers and two logits: for a code from q(z), and for one from Π_j q(z_j)."""
    parts: list[nn.Module] = []
    for before, after in pairwise([latent_dim, *[hidden] * layers]):
        parts += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*parts, nn.Linear(hidden, 2))


def permute_latents(
    z: Float[Tensor, "batch latent"], keys: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch latent"]:
    """Permute each latent over the batch by the order of its ``keys`` (1802.05983, algorithm 1)."""
    return torch.take_along_dim(z, keys.argsort(stable=True, dim=0), 0)


def log_ratio(logits: Logits) -> Float[Tensor, ""]:
    """Return the mean of ln D/(1 − D), D = softmax(logits)₀: an estimate of the total correlation, nats per image."""
    return (logits[:, 0] - logits[:, 1]).mean()


def discriminator_loss(joint: Logits, permuted: Float[Tensor, "permuted 2"]) -> Float[Tensor, ""]:
    """Return ½ (cross-entropy of codes with class 0 + that of permuted codes with class 1), nats; ln 2 for guessing."""
    return 0.5 * (F.softplus(joint[:, 1] - joint[:, 0]).mean() + F.softplus(permuted[:, 0] - permuted[:, 1]).mean())


class Objective(objectives.Objective):
    """reconstruction + KL + γ·TC, with the TC from a discriminator (Kim & Mnih 2018, 1802.05983, equations 2 and 3).

    The loss is the sum of the losses of model and discriminator, and each has gradients for its own part only. One step
    of Adam with two parameter groups therefore equals a step of two optimizers; the paper takes these steps in turn.
    The permuted codes come from the same batch (Locatello et al. 2019, 1811.12359), in the paper from a second one.
    From a batch of one image the discriminator only learns to guess.

    The discriminator runs in float32 even if the model runs in bfloat16. Rounding to 8 bits would hide the noise of
    codes that are much larger than the standard deviations of their posteriors.
    """

    terms = (
        Term("total_correlation", "total correlation (discriminator)"),
        Term("discriminator", "loss of the discriminator"),
    )
    kl_knob: ClassVar = Knob("objective.gamma", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        gamma: Annotated[float, Ge(0)] = 35.0,
        hidden: Annotated[int, Ge(1)] = 1000,
        layers: Annotated[int, Ge(1)] = 6,
        discriminator_learning_rate: Annotated[float, Gt(0)] = 1e-4,
        discriminator_betas: Betas = [0.5, 0.9],  # noqa: B006
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.discriminator = make_discriminator(spec.latent_dim, hidden, layers)
        self.learning_rate = discriminator_learning_rate
        self.betas = discriminator_betas

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the group of the discriminator, with its own learning rate and betas of Adam."""
        return [{"params": self.discriminator.parameters(), "lr": self.learning_rate, "betas": tuple(self.betas)}]

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image: Return the loss and its terms, nats per image.

        ``total_correlation`` is the estimate of the discriminator, usually too low and sometimes negative. Quote the
        metric ``decomposition`` instead. ``discriminator`` is ln 2 ≈ 0.693 if it cannot distinguish the codes.
        """
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        codes = out.z[0].detach()
        permuted = permute_latents(
            *context.gather(torch.stack([codes, context.noise.uniform(*codes.shape)], 1)).unbind(1)
        )
        held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        with no_autocast(codes.device):
            total_correlation = log_ratio(functional_call(self.discriminator, held, (out.z[0],)))
            logits = self.discriminator(torch.cat([codes, permuted]))
        discriminator = discriminator_loss(*logits.split([len(codes), len(permuted)]))
        return {
            "loss": reconstruction + kl + self.gamma * total_correlation + discriminator,
            "reconstruction": reconstruction,
            "kl": kl,
            "total_correlation": total_correlation,
            "discriminator": discriminator,
        }
