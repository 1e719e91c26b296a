"""Fully connected layers with gates, mirrored."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import networks
from vaelab.models.networks import append_condition
from vaelab.models.networks.mlp import Layers
from vaelab.models.spec import Spec


class GatedLinear(nn.Module):
    """(W h + b) · sigmoid(V h + c) (Dauphin et al. 2017, 1612.08083, equation 1)."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(num_inputs, num_outputs)
        self.gate = nn.Linear(num_inputs, num_outputs)

    def forward(self, h: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch more"]:
        """The gated features."""
        gated: Tensor = self.value(h) * self.gate(h).sigmoid()
        return gated


def _layers(widths: list[int]) -> nn.Sequential:
    """Gated layers of the given widths."""
    return nn.Sequential(*(GatedLinear(before, after) for before, after in itertools.pairwise(widths)))


class Encoder(networks.Encoder):
    """Gated hidden layers and a linear layer; a condition is appended to the pixels."""

    def __init__(self, spec: Spec, *, hidden: Layers = [300, 300]) -> None:  # noqa: B006
        super().__init__()
        self.layers = _layers([spec.num_pixels + spec.condition_dim, *hidden])
        self.head = nn.Linear(hidden[-1], spec.posterior_parameters)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        parameters: Tensor = self.head(self.layers(append_condition(x.flatten(1), condition)))
        return parameters


class Decoder(networks.Decoder):
    """The encoder's hidden layers in reverse order, then one linear layer; a condition is appended to the code."""

    def __init__(self, spec: Spec, *, hidden: Layers = [300, 300]) -> None:  # noqa: B006
        super().__init__()
        self.shape = (spec.decoder_channels, *spec.image_shape[1:])
        height, width = spec.image_shape[1:]
        self.layers = _layers([spec.latent_dim + spec.condition_dim, *hidden[::-1]])
        self.head = nn.Linear(hidden[0], spec.decoder_channels * height * width)

    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        pixels: Tensor = self.head(self.layers(append_condition(z, condition)))
        return pixels.view(-1, *self.shape)
