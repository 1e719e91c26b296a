"""The FactorVAE objective: total correlation as a discriminator sees it, which is trained beside the model."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Len, Lt
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaelab.data.images import Batch
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
    """``layers`` hidden layers of ``hidden`` units each, then two logits: of a code of q(z), of one of Π_j q(z_j)."""
    parts: list[nn.Module] = []
    for before, after in pairwise([latent_dim, *[hidden] * layers]):
        parts += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*parts, nn.Linear(hidden, 2))


def permute_latents(
    z: Float[Tensor, "batch latent"], keys: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch latent"]:
    """Each latent in an order of its own over the batch, that of its ``keys`` (1802.05983, algorithm 1)."""
    return torch.take_along_dim(z, keys.argsort(stable=True, dim=0), 0)


def log_ratio(logits: Logits) -> Float[Tensor, ""]:
    """The batch mean of ln D/(1 − D) for D = softmax(logits)₀: an estimate of the total correlation, nats per image."""
    return (logits[:, 0] - logits[:, 1]).mean()


def discriminator_loss(joint: Logits, permuted: Float[Tensor, "permuted 2"]) -> Float[Tensor, ""]:
    """½ (cross entropy of codes with class 0 + that of permuted ones with class 1), nats; ln 2 for one that guesses."""
    return 0.5 * (F.softplus(joint[:, 1] - joint[:, 0]).mean() + F.softplus(permuted[:, 0] - permuted[:, 1]).mean())


class Objective(objectives.Objective):
    """reconstruction + KL + γ·TC, with the TC from a discriminator (Kim & Mnih 2018, 1802.05983, equations 2 and 3).

    The loss is the sum of two, each with a gradient for its own part only: that of the model, through the codes and a
    discriminator that is held as it is, and that of the discriminator, which sees codes without a gradient. So one step
    of Adam with two groups of parameters is a step of two optimizers at once; the paper takes them one after the other.
    The permuted codes are those of the same batch (Locatello et al. 2019, 1811.12359; the paper draws a second one). A
    batch of one image teaches the discriminator nothing but to guess.

    The discriminator runs in float32 also where the model runs in bfloat16: rounded to 8 bits, codes that far exceed
    the standard deviations of their posteriors would lose what it is to see.
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
        """The discriminator's, with its own learning rate and decay of Adam's moments."""
        return [{"params": self.discriminator.parameters(), "lr": self.learning_rate, "betas": tuple(self.betas)}]

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Loss and terms, nats per image: loss = reconstruction + kl + γ·total_correlation + discriminator.

        ``total_correlation`` is what the discriminator makes of it, usually too low, at times < 0; the number to quote
        is that of the metric ``decomposition``. ``discriminator`` is its own loss: ln 2 ≈ 0.693 when it cannot tell.
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
