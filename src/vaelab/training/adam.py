"""Adam (1412.6980) with torch's fused kernel."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam:
    """Adam, bit-identical to ``torch.optim.Adam(fused=True)``, whose class would import a compiler (0.8 s).

    ``groups``: tables with ``params`` and, where they differ, ``lr``, ``betas`` and ``weight_decay``, which is that of
    AdamW (1711.05101). ``capturable``: the steps are counted on the device, as a CUDA graph needs. ``state``:
    parameter → "step", "exp_avg" and "exp_avg_sq", once it has had a gradient.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], lr: float, *, capturable: bool = False) -> None:
        groups = list(groups)
        assert all(group.keys() <= {"params", "lr", "betas", "weight_decay"} for group in groups)
        common = {"lr": lr, "betas": (0.9, 0.999), "weight_decay": 0.0}
        self.param_groups: list[dict[str, Any]] = [{**common, **group} for group in groups]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._capturable = capturable

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Remove all gradients, or set them to 0."""
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            if parameter.grad is not None and set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._get_state(parameter) for parameter in parameters]
            if not parameters:
                continue
            adam(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                capturable=self._capturable,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                decoupled_weight_decay=group["weight_decay"] > 0,
                eps=1e-8,
                maximize=False,
            )

    def _get_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the moments of a parameter, in its memory layout; zeros before its first step."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (
                torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False) for _ in range(2)
            )
        return state
