"""Early stopping: the weights with the lowest held-out loss, and how long it has not fallen since."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

FACTS = ("loss", "step", "waited")
"""Numbers of the best weights in a checkpoint."""


class BestWeights:
    """The weights of a model at its lowest held-out loss; ``patience`` validations without a lower one are enough."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.loss, self.step, self._waited = math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}
        """Parameters and buffers; empty before the first validation that counts."""

    @property
    def is_over(self) -> bool:
        """Whether training should stop."""
        return self._waited >= self._patience

    def update(self, model: nn.Module, loss: float, step: int, *, waits: bool) -> None:
        """Keep the weights of ``model`` if the held-out ``loss`` after ``step`` is the lowest so far.

        Only validations with ``waits`` use up the patience.
        """
        self._waited += waits
        if loss < self.loss:
            self.loss, self.step, self._waited = loss, step, 0
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name, for a checkpoint; nothing before the first validation that counts."""
        if not self.weights:
            return {}
        facts = {"loss": torch.tensor(self.loss, dtype=torch.float64)}
        facts |= {"step": torch.tensor(self.step), "waited": torch.tensor(self._waited)}
        return facts | {f"weights.{name}": tensor for name, tensor in self.weights.items()}

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Set everything from the tensors of a checkpoint."""
        self.loss, self.step, self._waited = float(tensors["loss"]), int(tensors["step"]), int(tensors["waited"])
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}
