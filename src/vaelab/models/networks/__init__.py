"""Networks, one file each; every file has ``Encoder(spec, *, …)`` and ``Decoder(spec, *, …)``.

Their keyword arguments are the keys of ``[network]`` in a recipe; both may have the same ones. A network accepts images
of any size from 8×8 and any number of channels.

Spatial latents are flattened with the channels last, so that the latents of a position are adjacent. If the posterior
has k parameters per latent, the encoder returns k such vectors, one after the other.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


def append_condition(
    h: Float[Tensor, "batch feature"], condition: Float[Tensor, "batch condition"] | None
) -> Float[Tensor, "batch more"]:
    """Return the features followed by the condition; only the features without a condition."""
    return h if condition is None else torch.cat([h, condition.to(h.dtype)], 1)


class Encoder(nn.Module, ABC):
    """Maps images to the parameters of their posteriors."""

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        """Return ``spec.posterior_parameters`` unbounded values per image."""


class Decoder(nn.Module, ABC):
    """Maps codes to the parameters of the likelihood."""

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch out_channel height width"]:
        """Return ``spec.decoder_channels`` channels of unbounded values."""
