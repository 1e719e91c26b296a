"""Schedules: pure functions of the training step, which is a tensor on the device."""

from jaxtyping import Float, Int
from torch import Tensor


def linear_warmup(step: Int[Tensor, ""], warmup_steps: int) -> Float[Tensor, ""]:
    """Rises from 1/``warmup_steps`` at step 0 to 1 at step ``warmup_steps`` − 1 and stays there; 1 throughout for 0."""
    if warmup_steps <= 1:
        return (step >= 0).float()
    return ((step + 1) / warmup_steps).clamp(max=1.0)
