"""Progress of tasks for people: bars on a terminal and in a notebook, lines elsewhere."""

import os
import time
from html import escape
from typing import TYPE_CHECKING, Any

from vaelab.system.errors import UsageError
from vaelab.system.progress import Task
from vaelab.system.terminal import make_console, wrap

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.progress import Task as BarTask

SECONDS = "VAELAB_PROGRESS_SECONDS"
NOTEBOOK_SECONDS = 0.2
"""Least time between two updates of a notebook's bars."""


class ProgressDisplay:
    """Shows tasks as bars on a terminal and in a notebook; elsewhere a line every $VAELAB_PROGRESS_SECONDS, or 10."""

    def __init__(self, *, to_stderr: bool) -> None:
        self.console = make_console(to_stderr=to_stderr)
        self.has_bars = self.console.is_terminal or self.console.is_jupyter
        self._notebook = _NotebookBars() if self.console.is_jupyter else None
        self._bars: Progress | None = None
        self._shown: dict[Task, TaskID] = {}
        self._current: Task | None = None
        self._last_line = time.monotonic()
        try:
            self._seconds = float(os.environ.get(SECONDS, "10"))
        except ValueError:
            raise UsageError(f"${SECONDS} must be a number", subject=SECONDS, value=os.environ[SECONDS]) from None

    def __call__(self, task: Task) -> None:
        """Show the state of a task."""
        if self._notebook is not None:
            self._notebook.update(task)
        elif self.has_bars:
            self._update_bar(task)
        elif not task.done or task.is_over:
            self._last_line = time.monotonic()
        elif time.monotonic() - self._last_line > self._seconds:
            total = f" of {task.total:,}" if task.total else ""
            self.print_line(f"{task.label}: {task.done:,}{total}  {task.status}".rstrip())

    def begin(self, label: str, total: int, done: int = 0) -> None:
        """Begin the one task that ``update`` and ``end`` are about."""
        self._current = Task(label, total, done)
        self(self._current)

    def update(self, done: int, status: str = "") -> None:
        """Show how much of the current task is done."""
        if self._current is not None:
            self._current.done, self._current.status = done, status
            self(self._current)

    def end(self) -> None:
        """End the current task, if there is one, and remove its bar."""
        if self._current is not None:
            self._current.is_over = True
            self(self._current)
            self._current = None

    def close(self) -> None:
        """Remove what is left of the bars."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._shown = None, {}
        if self._notebook is not None:
            self._notebook.close()

    def print_line(self, text: str) -> None:
        """Print a line above the bars, wrapped between words on a terminal; the next line of progress waits."""
        self.console.print(wrap(text, self.console.width) if self.console.is_terminal else text)
        self._last_line = time.monotonic()

    def _update_bar(self, task: Task) -> None:
        if task.is_over:
            if self._bars is not None and task in self._shown:
                self._bars.remove_task(self._shown.pop(task))
                if not self._shown:
                    self.close()
            return
        if self._bars is None:
            self._bars = _make_bars(self.console)
            self._bars.start()
        text = f"{task.label} {task.status}".strip()
        if task not in self._shown:
            self._shown[task] = self._bars.add_task(text, total=task.total)
        self._bars.update(self._shown[task], description=text, total=task.total, completed=task.done)


class _NotebookBars:
    """Bars in the output of a notebook's cell: HTML that is replaced some times a second and needs no widgets."""

    def __init__(self) -> None:
        self._began: dict[Task, tuple[float, int]] = {}
        self._drawn = 0.0
        self._output: Any = None

    def update(self, task: Task) -> None:
        """Show a task beside the others that are not over."""
        if task.is_over:
            self._began.pop(task, None)
        else:
            self._began.setdefault(task, (time.monotonic(), task.done))
        if task.is_over or time.monotonic() - self._drawn > NOTEBOOK_SECONDS:
            self._drawn = time.monotonic()
            self._write("".join(map(self._format, self._began)))

    def close(self) -> None:
        """Remove all bars."""
        self._began.clear()
        self._write("")

    def _write(self, text: str) -> None:
        from IPython.display import HTML, display

        if self._output is not None:
            self._output.update(HTML(text))
        elif text:
            self._output = display(HTML(text), display_id=True)

    def _format(self, task: Task) -> str:
        began, before = self._began[task]
        length = f' value="{task.done}" max="{task.total}"' if task.total else ""
        words = [f"{task.label} {task.status}".strip()]
        if task.total and task.done > before:
            left = (task.total - task.done) * (time.monotonic() - began) / (task.done - before)
            words += [f"{task.done / task.total:.0%}", f"{format_duration(left)} left"]
        return f'<div><progress{length} style="width:40%"></progress> {escape(" · ".join(words))}</div>'


def _make_bars(console: "Console") -> "Progress":
    """Return bars as wide as the terminal: what is done, the bar, its share, and the time that is left."""
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """The time that is left, with its label."""

        def render(self, task: "BarTask") -> Text:
            """Return minutes:seconds; empty while the speed is unknown."""
            left = task.time_remaining
            return Text("" if left is None or task.finished else f"{format_duration(left)} left")

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeLeft(table_column=Column(no_wrap=True, min_width=9)),
        console=console,
        transient=True,
        expand=True,
    )


def describe_duration(seconds: float) -> str:
    """Return a duration in words, as exact as an estimate is: "about 40 s", "about 3 min", "about 2 h 10 min"."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"about {hours} h {minutes} min" if minutes and hours < 10 else f"about {round(seconds / 3600)} h"


def format_duration(seconds: float) -> str:
    """Return a duration as minutes:seconds or hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
