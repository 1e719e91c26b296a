"""Progress of long tasks and messages to the user; silent until the command line says how to show them."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

from vaelab.system.distributed import launched


@runtime_checkable
class Progress(Protocol):
    """A progress bar, or whatever else shows how far a task has come."""

    def expect(self, total: int) -> None:
        """Set the total, which became known only now."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units as done."""


class Silent:
    """Shows nothing."""

    def expect(self, total: int) -> None:
        """Ignore the total."""

    def advance(self, amount: int) -> None:
        """Ignore the units."""


ProgressFactory = Callable[[str, int | None], AbstractContextManager[Progress]]
"""(label, total or None) → context of a task."""


def _show_nothing(_label: str, _total: int | None) -> AbstractContextManager[Progress]:
    return nullcontext(Silent())


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


_factory: ProgressFactory = _show_nothing
_say: Callable[[str], None] = _warn


def show_progress(factory: ProgressFactory = _show_nothing, say: Callable[[str], None] = _warn) -> None:
    """Set how progress and messages are shown; without arguments: no progress, and messages are Python warnings."""
    global _factory, _say
    _factory, _say = factory, say


def say(text: str) -> None:
    """Show one sentence to the user; in distributed training only rank 0 does."""
    if launched().is_first:
        _say(text)


def progress(label: str, total: int | None) -> AbstractContextManager[Progress]:
    """Return the context of a task of ``total`` units (None: unknown)."""
    return _factory(label, total)
