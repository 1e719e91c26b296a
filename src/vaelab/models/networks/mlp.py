"""Fully connected layers, mirrored."""

import itertools
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Len
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.spec import Spec

Activation = Literal["relu", "leaky_relu", "tanh", "gelu", "silu"]
Layers = Annotated[list[Annotated[int, Ge(1)]], Len(1)]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def _layers(widths: list[int], activation: Activation) -> nn.Sequential:
    """Linear layers of the given widths with the activation after each."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Hidden layers, then one linear layer to mean and log-variance."""

    def __init__(self, spec: Spec, *, hidden: Layers = [400], activation: Activation = "relu") -> None:  # noqa: B006
        super().__init__()
        self.layers = _layers([spec.num_pixels, *hidden], activation)
        self.head = nn.Linear(hidden[-1], 2 * spec.latent_dim)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        mean, log_var = self.head(self.layers(x.flatten(1))).chunk(2, dim=1)
        return mean, log_var


class Decoder(nn.Module):
    """The encoder's hidden layers in reverse order, then one linear layer to the image."""

    def __init__(self, spec: Spec, *, hidden: Layers = [400], activation: Activation = "relu") -> None:  # noqa: B006
        super().__init__()
        self.shape = (spec.decoder_channels, *spec.image_shape[1:])
        height, width = spec.image_shape[1:]
        self.layers = _layers([spec.latent_dim, *hidden[::-1]], activation)
        self.head = nn.Linear(hidden[0], spec.decoder_channels * height * width)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel height width"]:
        pixels: Tensor = self.head(self.layers(z))
        return pixels.view(-1, *self.shape)
