"""Initial weights, drawn from a generator."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class DrawsOwnWeights(Protocol):
    """A module that initialises its own parameters and buffers."""

    def initialise(self, generator: torch.Generator) -> None:
        """Draw them in place."""


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight matrix or kernel and its bias from U(−1/√f, 1/√f), f the fan-in of the layer.

    This is torch's default for its layers (He-uniform with a = √5). For transposed convolutions f counts the output
    channels, as in torch. Frozen parameters, such as those of a pretrained network, keep their values. Parts that are
    ``DrawsOwnWeights`` then draw theirs, which may be those of parts of their own.
    """
    for part in module.modules():
        parameters = dict(part.named_parameters(recurse=False))
        weight = parameters.get("weight")
        if weight is not None and weight.ndim >= 2:
            bound = 1 / math.sqrt(weight[0].numel())
            for parameter in (weight, parameters.get("bias")):
                if parameter is not None and parameter.requires_grad:
                    parameter.uniform_(-bound, bound, generator=generator)
    for part in module.modules():
        if isinstance(part, DrawsOwnWeights):
            part.initialise(generator)
