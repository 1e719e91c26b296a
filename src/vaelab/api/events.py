"""Events that ``train`` reports while it works."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vaelab.recipe import ResolvedRecipe
from vaelab.run import Run
from vaelab.system.messages import warn
from vaelab.training.loop import ProgressRecord


@dataclass(frozen=True)
class Started:
    """Event: training starts or is resumed."""

    run: Run
    recipe: ResolvedRecipe
    first_step: int
    num_steps: int
    num_images: int
    steps_per_epoch: int
    num_parameters: dict[str, int]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """Event: one sentence for the user."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class TrackerNote(Note):
    """Event: one sentence about an experiment tracker, which is not part of the run's log."""


@dataclass(frozen=True)
class Finished:
    """Event: the run is complete; ``already`` if it was complete before."""

    run: Run
    already: bool = False


Event = Started | ProgressRecord | Note | Finished
Watch = Callable[[Event], None]


def warn_only(event: object) -> None:
    """Issue a VaelabWarning for a note that is a warning; ignore other events."""
    if isinstance(event, Note) and event.warning:
        warn(event.text)
