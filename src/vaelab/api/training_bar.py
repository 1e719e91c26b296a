"""The progress bar of training called from Python, on a terminal or in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from vaelab.api.events import Finished, Started
from vaelab.system.bars import ProgressDisplay
from vaelab.system.distributed import launched_group
from vaelab.system.progress import show_progress
from vaelab.training.loop import ProgressRecord


class TrainingBar:
    """Shows the events of training as a progress bar."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display

    def __call__(self, event: object) -> None:
        """Show one event; those without progress change nothing."""
        if isinstance(event, Started):
            self._started = event
            self._display.begin(event.run.name, event.num_steps, event.first_step)
        elif isinstance(event, ProgressRecord):
            self._display.update(event.step, describe_progress(self._started, event))
            if event.step == self._started.num_steps or event.finished_early:
                self.close()  # metrics and figures have bars of their own
        elif isinstance(event, Finished):
            self.close()

    def close(self) -> None:
        """Remove the bar."""
        self._display.end()


@contextmanager
def showing_bar(watch: Callable[[Any], None], *, is_wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Yield ``watch``, which also moves a bar if that is wanted and there is a terminal or a notebook to show it.

    Other tasks inside this context, such as decoding images, have bars, too.
    """
    display = ProgressDisplay(to_stderr=True) if is_wanted and launched_group().is_main else None
    if display is None or not display.has_bars:
        yield watch
        return
    with closing(display), closing(TrainingBar(display)) as bar, show_progress(display):

        def show_and_watch(event: Any) -> None:
            bar(event)
            watch(event)

        yield show_and_watch


def describe_progress(started: Started, record: ProgressRecord) -> str:
    """Return epoch, loss and speed in a text that fits beside a bar; empty before the first step."""
    if not len(record.terms["loss"]):
        return ""
    loss, kl = (float(record.terms[name].mean()) for name in ("loss", "kl"))
    epochs = -(-started.num_steps // started.steps_per_epoch)
    return f"epoch {record.epoch}/{epochs} loss {loss:.2f} KL {kl:.2f} {record.images_per_second:,.0f} images/s"
