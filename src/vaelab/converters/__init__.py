"""Models of other packages, one file for each package; every file has ``convert(source) -> Converted``.

Files are read by ``load_weights``, which accepts tensors and plain containers only. Nothing in them is executed.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from vaelab.system.errors import InputError
from vaelab.system.files import check_file


@dataclass(frozen=True)
class Converted:
    """A model of another package in the terms of a recipe, and its weights under vaelab's names."""

    title: str
    sections: dict[str, dict[str, Any]]
    """Sections of a recipe that the model determines: network, likelihood and objective."""
    tensors: dict[str, Tensor]
    """Weights by their names in ``VAE.state_dict()``."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    notes: tuple[str, ...] = ()
    """Sentences about what the file does not say."""


def load_weights(path: Path) -> Mapping[str, Any]:
    """Return the dictionary in a file of ``torch.save``; InputError if it holds anything but tensors and plain values.

    Classes and functions named in the file are neither imported nor called (``weights_only``).
    """
    check_file(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("GLOBAL ")[2].partition(" ")[0]
        what = f"it holds the Python object {reason}" if reason else "it is not a file of torch.save, or is damaged"
        advice = "which is not loaded because it could execute code; save the state_dict alone" if reason else ""
        raise InputError(f"{path}: {', '.join(filter(None, (what, advice)))}", subject=path) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError):
        raise InputError(f"{path}: it is not a file of torch.save, or is damaged", subject=path) from None
    if not isinstance(found, dict):
        refuse(path, f"it holds a {type(found).__name__} and no dictionary of weights")
    return found


def refuse(path: Path, reason: str) -> NoReturn:
    """Raise the InputError for a model that vaelab cannot represent."""
    raise InputError(f"{path}: {reason}", subject=path)


class Layers:
    """The named tensors of a file, each taken once; what is left over belongs to another model."""

    def __init__(self, path: Path, tensors: Mapping[str, Any]) -> None:
        self._path = path
        self._left = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}

    def take(self, name: str, *ndims: int) -> Tensor:
        """Return a tensor in float32; InputError if it is missing or has another number of axes."""
        found = self._left.pop(name, None)
        if found is None:
            refuse(self._path, f"it has no {name}; its layers are not those of a model that can be converted")
        if found.ndim not in ndims:
            refuse(self._path, f"{name} has the shape {tuple(found.shape)}, which no layer of such a model has")
        return found.float()

    def take_layer(self, name: str, ndim: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a layer."""
        return self.take(f"{name}.weight", ndim), self.take(f"{name}.bias", 1)

    def count(self, form: str) -> int:
        """Return for how many numbers, from 0 on, a name of this form (``"encoder.{}.0.weight"``) is there."""
        number = 0
        while form.format(number) in self._left:
            number += 1
        return number

    def drop(self, *names: str) -> None:
        """Leave out tensors that inference does not need."""
        for name in names:
            self._left.pop(name, None)

    def check_empty(self) -> None:
        """Raise InputError if there are more tensors than were taken."""
        if self._left:
            more = f" and {len(self._left) - 1} more" if len(self._left) > 1 else ""
            refuse(self._path, f"it also has {next(iter(self._left))}{more}, which no model that can be converted has")
