"""Schedules: pure functions of the training step; a tensor on the device if the model's own computation reads it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.recipe.training import Decay
from vaelab.system.device import widest_float


def linear_warmup(step: Int[Tensor, ""], warmup_steps: int) -> Float[Tensor, ""]:
    """Return min(1, (t + 1)/T): 1/T at step 0, 1 from step T − 1 on; 1 throughout for T = 0 (``warmup_steps``)."""
    if warmup_steps <= 1:
        return (step >= 0).float()
    return ((step + 1) / warmup_steps).clamp(max=1.0)


def cyclical_warmup(step: Int[Tensor, ""], cycles: int, cycle_steps: int) -> Float[Tensor, ""]:
    """Return min(1, 2·(t mod L)/L) in each of M cycles of L steps, then 1 (Fu et al. 2019, 1903.10145)."""
    rising = (step % cycle_steps * (2 / cycle_steps)).clamp(max=1.0)
    return torch.where(step < cycles * cycle_steps, rising, 1.0)


def linear_capacity(step: Int[Tensor, ""], max_capacity: float, warmup_steps: int) -> Float[Tensor, ""]:
    """Return C(t) = min(C_max, C_max·t/T): 0 at step 0, C_max from step T on; C_max throughout for T = 0.

    In float64 if the device has it.
    """
    if warmup_steps == 0:
        return torch.full_like(step, max_capacity, dtype=widest_float(step.device))
    return (step.to(widest_float(step.device)) * (max_capacity / warmup_steps)).clamp(max=max_capacity)


def half_cosine(step: int, num_steps: int) -> float:
    """Return ½ (1 + cos(π·t/T)): 1 at step 0, towards 0 at the end (Loshchilov & Hutter 2017, 1608.03983, eq. 5)."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


def lr_schedule(step: int, num_steps: int, decay: Decay, warmup_steps: int) -> float:
    """Return the learning-rate multiplier of a step: a linear warm-up from 1/T to 1, times the decay."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * half_cosine(step, num_steps) if decay == "cosine" else warmup
