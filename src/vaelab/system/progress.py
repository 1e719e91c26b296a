"""Progress of long tasks; nothing is shown until the command line says how."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable


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


_factory: ProgressFactory = _show_nothing


def show_progress(factory: ProgressFactory = _show_nothing) -> None:
    """Set how progress is shown; without an argument, not at all."""
    global _factory
    _factory = factory


def progress(label: str, total: int | None) -> AbstractContextManager[Progress]:
    """Return the context of a task of ``total`` units (None: unknown)."""
    return _factory(label, total)
