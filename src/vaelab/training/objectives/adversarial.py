"""VAE-GAN, trained jointly with a discriminator of real and decoded images. Its loss is not an evidence lower bound."""

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaelab.data.tensors import Batch
from vaelab.models.conditions import condition_columns
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob
from vaelab.training.objectives.factor import SLOPE, Betas

SMALLEST = 4
"""Shortest side of the last features of the discriminator."""
WIDEST = 256


class Discriminator(nn.Module):
    """Strided convolutions with leaky ReLU, then a linear layer to one logit: positive for a real image.

    ``channels`` of the first layer, doubled from layer to layer up to 256, until the shorter side has 4 to 7 pixels.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        width, height, across = image_shape
        layers: list[nn.Module] = []
        while min(height, across) >= 2 * SMALLEST:
            layers.append(nn.Conv2d(width, channels, 3, 2, padding=1))
            width, channels = channels, min(2 * channels, max(channels, WIDEST))
            height, across = -(-height // 2), -(-across // 2)
        self.convolutions = nn.ModuleList(layers)
        self.head = nn.Linear(width * height * across, 1)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch feature"]]:
        """Return the logits and the features before the linear layer."""
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), SLOPE)
        features = x.flatten(1)
        return self.head(features)[:, 0], features


class Objective(objectives.Objective):
    """reconstruction + KL + λ·features + γ·adversarial, with a discriminator (Larsen et al. 2016, 1512.09300).

    The discriminator learns to distinguish images of the batch from reconstructions and from decoded draws of the
    prior. ``adversarial`` is the loss of the decoder against it, in its non-saturating form. ``features`` is the
    squared distance between images and reconstructions in the discriminator's last features (equation 7). λ is
    ``feature_weight``, γ is ``gamma``. The paper has the features instead of the pixels; here both count.

    The loss is the sum of the losses of model and discriminator, and each has gradients for its own part only, as in
    factor.
    """

    terms = (
        Term("features", "distance of features", unit=""),
        Term("adversarial", "adversarial loss", unit=""),
        Term("discriminator", "loss of the discriminator", unit=""),
    )
    loss_unit: ClassVar = ""
    kl_knob: ClassVar = Knob("objective.feature_weight", raises_kl=True)

    def __init__(
        self,
        spec: Spec,
        *,
        feature_weight: Annotated[float, Ge(0)] = 1.0,
        gamma: Annotated[float, Ge(0)] = 10.0,
        channels: Annotated[int, Ge(1)] = 32,
        discriminator_learning_rate: Annotated[float, Gt(0)] = 2e-4,
        discriminator_betas: Betas = [0.5, 0.9],  # noqa: B006
    ) -> None:
        super().__init__()
        self.spec, self.feature_weight, self.gamma = spec, feature_weight, gamma
        self.discriminator = Discriminator(spec.image_shape, channels)
        self.learning_rate = discriminator_learning_rate
        self.betas = discriminator_betas

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the group of the discriminator, with its own learning rate and betas of Adam."""
        return [{"params": self.discriminator.parameters(), "lr": self.learning_rate, "betas": tuple(self.betas)}]

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms; ``discriminator`` is 2 ln 2 ≈ 1.386 if it cannot distinguish them."""
        reconstruction, kl, count = out.mean_reconstruction, out.mean_kl, len(batch.x)
        condition = condition_columns(self.spec, batch.labels, batch.attributes)
        drawn = out.prior.sample(count, context.noise).to(out.z.dtype)
        decoded = torch.cat([out.p_x.mean[0], context.vae.decode_batch(drawn, condition).mean])
        held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits, features = functional_call(self.discriminator, held, (torch.cat([decoded, batch.x]),))
        rebuilt, _, real = features.split(count)
        distance = (rebuilt - real).square().sum(1).mean()
        adversarial = F.softplus(-logits[: 2 * count]).mean()
        on_real, on_decoded = (self.discriminator(x)[0] for x in (batch.x, decoded.detach()))
        discriminator = F.softplus(-on_real).mean() + F.softplus(on_decoded).mean()
        return {
            "loss": reconstruction + kl + self.feature_weight * distance + self.gamma * adversarial + discriminator,
            "reconstruction": reconstruction,
            "kl": kl,
            "features": distance,
            "adversarial": adversarial,
            "discriminator": discriminator,
        }
