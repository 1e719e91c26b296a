"""Checks during training: values that are not finite, and posterior collapse."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.models.codes import ACTIVE_KL
from vaelab.training.settings import Settings
from vaelab.training.state import State
from vaelab.training.validation import Validation

COLLAPSE = "posterior collapse"


class Diverged(ValueError):
    """A loss or a weight is not finite; ``step`` is the batch, counted from 1, and ``name`` the term or the weight."""

    def __init__(self, message: str, step: int, name: str) -> None:
        super().__init__(message)
        self.step, self.name = step, name


def check_terms(
    names: list[str], values: Float[NDArray[np.float32], "step term"], first: int, settings: Settings
) -> tuple[int, Diverged | None]:
    """Return the number of rows before the first that is not finite, and the error for that row.

    ``values``: the terms of the steps from ``first`` on.
    """
    finite = np.isfinite(values)
    if finite.all():
        return len(values), None
    row = int(np.argmin(finite.all(1)))
    culprits = [name for name, is_finite in zip(names, finite[row], strict=True) if not is_finite]
    culprit = next((name for name in culprits if name != "loss"), "loss")
    value = values[row, names.index(culprit)]
    return row, _make_error(first + row + 1, culprit, f"is {value}", settings)


def check_weights(state: State, settings: Settings) -> Diverged | None:
    """Return an error if a tensor of the state is not finite."""
    for name, tensor in state.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            return _make_error(state.step, name, "is no longer finite", settings)
    return None


def _make_error(step: int, name: str, what: str, settings: Settings) -> Diverged:
    advice = f"Try a new run with a lower training.learning_rate (now {settings.learning_rate:g})"
    advice += "" if settings.precision == "fp32" else " or training.precision=fp32"
    return Diverged(f"step {step}: {name} {what}. {advice}", step, name)


def find_collapse(state: State, validation: Validation | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return warnings of a posterior collapse, and sentences that withdraw one; each is given once."""
    if validation is None:
        return (), ()
    largest = max(validation.kl_groups)
    has_collapsed = largest < ACTIVE_KL
    if state.has_collapsed and largest > 2 * ACTIVE_KL:  # a margin, so that a KL near the threshold warns once
        state.has_collapsed = False
        return (), (f"{COLLAPSE}: over by step {state.step}, a latent carries {largest:.2g} nats",)
    if state.has_collapsed or not has_collapsed or state.step < state.objective.warmup_steps:
        return (), ()
    state.has_collapsed = True
    text = (
        f"{COLLAPSE}: after step {state.step} no latent carries more than {largest:.2g} nats, so the decoder "
        f"ignores the code; try {state.objective.advise_kl(larger=True)} or a smaller decoder"
    )
    return (text,), ()
