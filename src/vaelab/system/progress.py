"""Progress of long tasks; nothing is shown unless a display is set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False)
class Task:
    """A task of ``total`` units (None: unknown), of which ``done`` are done."""

    label: str
    total: int | None
    done: int = 0
    status: str = ""
    """Text to show beside the progress."""
    is_over: bool = False

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units as done."""
        self.done += amount
        _display(self)

    def expect(self, total: int) -> None:
        """Set a total that was unknown before."""
        self.total = total
        _display(self)


Display = Callable[[Task], None]
"""Called with a task when it begins, advances and ends."""


def _show_nothing(task: Task) -> None:
    pass


_display: Display = _show_nothing


@contextmanager
def show_progress(display: Display) -> Iterator[None]:
    """Show the progress of all tasks with ``display`` inside this context."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Task]:
    """Return the context of a task of ``total`` units (None: unknown)."""
    task = Task(label, total)
    _display(task)
    try:
        yield task
    finally:
        task.is_over = True
        _display(task)


@contextmanager
def observe_progress(observer: Display) -> Iterator[None]:
    """Call ``observer`` with the tasks inside this context too, beside the display that is set."""
    shown = _display

    def show_and_observe(task: Task) -> None:
        shown(task)
        observer(task)

    with show_progress(show_and_observe):
        yield
