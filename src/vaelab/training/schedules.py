"""Schedules: pure functions of the training step, which is a tensor on the device where the step itself reads it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def linear_warmup(step: Int[Tensor, ""], warmup_steps: int) -> Float[Tensor, ""]:
    """Rises from 1/``warmup_steps`` at step 0 to 1 at step ``warmup_steps`` − 1 and stays there; 1 throughout for 0."""
    if warmup_steps <= 1:
        return (step >= 0).float()
    return ((step + 1) / warmup_steps).clamp(max=1.0)


def linear_capacity(step: Int[Tensor, ""], max_capacity: float, warmup_steps: int) -> Float[Tensor, ""]:
    """C(t) = min(C_max, C_max·t/T), float64: rises from 0 at step 0 to C_max at step T; C_max throughout for T = 0."""
    if warmup_steps == 0:
        return torch.full_like(step, max_capacity, dtype=torch.float64)
    return (step.double() * (max_capacity / warmup_steps)).clamp(max=max_capacity)


def half_cosine(step: int, num_steps: int) -> float:
    """½ (1 + cos(π·step/``num_steps``)): falls from 1 at step 0 towards 0 (Loshchilov & Hutter 2017, 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))
