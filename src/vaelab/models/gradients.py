"""Straight-through estimators: functions whose gradient is not that of their value."""

from jaxtyping import Float
from torch import Tensor


def straight_through(value: Float[Tensor, "*shape"], source: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``value`` with the gradient of ``source`` (Bengio et al. 2013, 1308.3432)."""
    return value.detach() + (source - source.detach())


def clamp_straight_through(x: Float[Tensor, "*shape"], low: float, high: float) -> Float[Tensor, "*shape"]:
    """Return ``x`` clamped to [``low``, ``high``]; the gradient passes unchanged, inside and outside the range."""
    return straight_through(x.clamp(low, high), x)
