"""Warnings about results and counts with their nouns, for people."""

import sys
import warnings


class VaelabWarning(UserWarning):
    """A fact about a result that the user should know. The command line prints it as one line on stderr."""


def warn(text: str) -> None:
    """Issue a VaelabWarning for the first caller outside vaelab; of several processes only the first does."""
    from vaelab.system.distributed import launched_group

    if not launched_group().is_main:
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("vaelab."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, VaelabWarning, stacklevel=level)


def count_of(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``60,000 images``; ``plural`` if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
