"""Checks of function arguments; errors say in one line what is expected and what was given."""

import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

AnyPath = str | os.PathLike[str]
"""A path: text, a Path or a Run."""
MAX_SHOWN = 60
"""Number of characters of a value that a message shows."""


def check_whole(value: object, name: str, least: int, most: int | None = None) -> int:
    """Return an integer from ``least`` to ``most``; TypeError for another type, ValueError outside."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer; got {describe(value)}")
    number = int(value)
    if number < least or (most is not None and number > most):
        wanted = f"{least} or more" if most is None or number < least else f"{most} or less"
        raise ValueError(f"{name} must be {wanted}; got {number}")
    return number


def check_path(value: object, name: str, *, wanted: str = "a path", advice: str = "") -> Path:
    """Return the path in ``value``; TypeError, which says what is ``wanted`` and ends with ``advice``, for others."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be {wanted}; got {describe(value)}{advice and f'. {advice}'}")
    return Path(value)


def check_list(value: Any, name: str) -> list[Any]:
    """Return one or several values as a list; text and a path are one value. TypeError for what is not iterable."""
    if isinstance(value, str | os.PathLike):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list; got {describe(value)}")
    return list(value)


def check_names(value: Any, name: str) -> list[str]:
    """Return one or several names as a list; TypeError for anything but text."""
    names = check_list(value, name)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f"{name} must be text; got {describe(one)}")
    return names


def describe(value: object) -> str:
    """Return a value in a few words: short values themselves, the shape of arrays, otherwise the type."""
    shape = getattr(value, "shape", None)
    name = "array" if type(value).__name__ == "ndarray" else type(value).__name__
    kind = f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
    if isinstance(shape, Sequence):
        return f"{kind} of shape {list(shape)}"
    if value is None or isinstance(value, str | int | float | complex | Path):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return kind
