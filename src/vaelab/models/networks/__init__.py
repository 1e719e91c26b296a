"""Networks, one file each, encoder and decoder together; every file has ``Encoder(spec, *, …)`` and ``Decoder(…)``.

Keyword arguments are the recipe's ``[network]`` keys; the two constructors may share them. Any image size from 8×8 and
any number of channels works.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


def append_condition(
    h: Float[Tensor, "batch feature"], condition: Float[Tensor, "batch condition"] | None
) -> Float[Tensor, "batch more"]:
    """Features with the condition behind them; the features themselves without one."""
    return h if condition is None else torch.cat([h, condition.to(h.dtype)], 1)


class Encoder(nn.Module, ABC):
    """Maps images to the parameters of their posteriors."""

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        """``spec.posterior_parameters`` unbounded values per image."""


class Decoder(nn.Module, ABC):
    """Maps codes to what the likelihood needs."""

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch out_channel height width"]:
        """``spec.decoder_channels`` channels of unbounded values."""
