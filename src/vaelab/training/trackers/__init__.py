"""Experiment trackers, one file each, to which a run is mirrored while it is trained.

A tracker works in a process of its own (``api/mirror.py``). It may print, wait for a service, fail or hang without any
effect on the training. Its package is imported by ``Tracker.__init__``, so that the folder can be listed without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

End = Literal["finished", "stopped", "failed"]
"""How training ended; a stopped or failed run may be resumed."""


@dataclass(frozen=True)
class TrackedRun:
    """The facts with which a tracker opens the mirror of a run."""

    id: str
    """Identifies the mirror; the same whenever the run is resumed."""
    name: str
    step: int
    """The last step that the mirror has; 0 if it is new."""
    folder: Path
    """Folder in the run for the tracker's files."""
    recipe: Mapping[str, Any]
    """Values by dotted key, such as "objective.beta"."""


@dataclass(frozen=True)
class Embedding:
    """Codes of held-out images with thumbnails and labels."""

    codes: Float[np.ndarray, "n latent"]
    thumbnails: UInt8[np.ndarray, "n height width channel"]
    columns: Mapping[str, list[str]]
    """Label, attributes and factors of each image, as far as there are any."""


class Tracker(ABC):
    """The mirror of one run in an experiment tracker. Any exception ends the mirroring, not the training."""

    takes_embedding = False
    """Whether ``log_embedding`` does something."""
    place: str
    """Address or command with which people look at the mirror."""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None:
        """Import the tracker's package and open the mirror, new or where it ended."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers at a step; steps rise."""

    @abstractmethod
    def log_results(self, step: int, values: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Log the final numbers and the figures (PNG) of a finished run."""

    def log_embedding(self, step: int, embedding: Embedding) -> None:  # noqa: B027 (few trackers have a projector)
        """Log codes for a projector."""

    @abstractmethod
    def close(self, end: End) -> None:
        """Send everything that is left, then close the mirror."""
