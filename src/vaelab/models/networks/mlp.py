"""Fully connected networks."""

import itertools
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Len
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import networks
from vaelab.models.networks import append_condition
from vaelab.models.spec import Spec

Activation = Literal["relu", "leaky_relu", "tanh", "gelu", "silu", "gated"]
Layers = Annotated[list[Annotated[int, Ge(1)]], Len(1)]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class GatedLinear(nn.Module):
    """(W h + b) · sigmoid(V h + c) (Dauphin et al. 2017, 1612.08083, equation 1)."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(num_inputs, num_outputs)
        self.gate = nn.Linear(num_inputs, num_outputs)

    def forward(self, h: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch more"]:
        """Return the gated features."""
        gated: Tensor = self.value(h) * self.gate(h).sigmoid()
        return gated


def _layers(widths: list[int], activation: Activation) -> nn.Sequential:
    """Return linear layers of these widths with the activation after each; "gated" layers are ``GatedLinear``."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        if activation == "gated":
            layers.append(GatedLinear(before, after))
        else:
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class Encoder(networks.Encoder):
    """Hidden layers and a linear layer; a condition is appended to the pixels."""

    def __init__(self, spec: Spec, *, hidden: Layers = [400], activation: Activation = "relu") -> None:  # noqa: B006
        super().__init__()
        self.layers = _layers([spec.num_pixels + spec.condition_dim, *hidden], activation)
        self.head = nn.Linear(hidden[-1], spec.posterior_parameters)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        parameters: Tensor = self.head(self.layers(append_condition(x.flatten(1), condition)))
        return parameters


class Decoder(networks.Decoder):
    """The encoder's hidden layers in reverse order and a linear layer; a condition is appended to the code."""

    def __init__(self, spec: Spec, *, hidden: Layers = [400], activation: Activation = "relu") -> None:  # noqa: B006
        super().__init__()
        self.shape = (spec.decoder_channels, *spec.image_shape[1:])
        height, width = spec.image_shape[1:]
        self.layers = _layers([spec.latent_dim + spec.condition_dim, *hidden[::-1]], activation)
        self.head = nn.Linear(hidden[0], spec.decoder_channels * height * width)

    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        pixels: Tensor = self.head(self.layers(append_condition(z, condition)))
        return pixels.view(-1, *self.shape)
