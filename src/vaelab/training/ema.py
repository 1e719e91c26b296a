"""The exponential moving average of the weights."""

import torch
from jaxtyping import Int
from torch import Tensor, nn


class WeightAverage:
    """The moving average of a model's parameters (Polyak & Juditsky 1992): a ← δ·a + (1 − δ)·w after each step.

    δ is min(``decay``, (1 + t) / (10 + t)) with the step t from 0, so that the first weights are soon forgotten.
    Buffers have no average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(model.named_parameters())
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        """Parameter → its average, in the memory layout of the parameter."""

    def restart(self) -> None:
        """Let the averages be the current weights."""
        for name, parameter in self._parameters.items():
            self.tensors[name].copy_(parameter.detach())

    @torch.no_grad()
    def update(self, step: Int[Tensor, ""]) -> None:
        """Add the current weights; ``step``, on their device, is the number of the step that was just taken."""
        averages = list(self.tensors.values())
        changes = torch._foreach_sub(list(self._parameters.values()), averages)
        torch._foreach_mul_(changes, 1 - ((1 + step) / (10 + step)).clamp(max=self._decay))
        torch._foreach_add_(averages, changes)
