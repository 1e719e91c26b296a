"""Weights of another run, from which training starts (``training.start_from``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vaelab.api.load import load_with_recipe
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError

KEY = "training.start_from"
MOST_NAMED = 3


@dataclass(frozen=True)
class StartingWeights:
    """Tensors of a model that fit another model, and what was taken in words."""

    tensors: dict[str, Tensor]
    description: str


def read_start(place: str, vae: VAE) -> StartingWeights:
    """Return the weights of a run or a model file whose names and shapes are those of ``vae``, and what they are.

    Raises InputError if no kernel or matrix of encoder or decoder fits, and what ``vaelab.load`` raises.
    """
    other, recipe = load_with_recipe(Path(place).expanduser())
    found, own = other.state_dict(), vae.state_dict()
    fitting = {name: tensor for name, tensor in found.items() if name in own and own[name].shape == tensor.shape}
    left = [_describe(name, own[name], found.get(name)) for name in own if name not in fitting]
    if not any(name.startswith(("encoder.", "decoder.")) and tensor.ndim > 1 for name, tensor in fitting.items()):
        message = f"{KEY} = {place}: no layer of it fits this model: {_join(left)}"
        raise InputError(message, subject=KEY, value=place)
    taken = "all weights" if not left else f"{len(fitting)} of {len(own)} tensors"
    words = f"starts from {place} ({recipe.name}): {taken}"
    return StartingWeights(fitting, f"{words}; initialised at random: {_join(left)}" if left else words)


def _describe(name: str, own: Tensor, other: Tensor | None) -> str:
    return f"{name} ({list(own.shape)} here, {list(other.shape) if other is not None else 'none'} there)"


def _join(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more
