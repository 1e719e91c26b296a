"""``--track``: one process for each experiment tracker, to which a run is mirrored while it is trained."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vaelab.api.events import Finished, Started, TrackerNote
from vaelab.run import Run
from vaelab.run.layout import TRACKERS
from vaelab.run.records import read_tracker_state
from vaelab.system import registry
from vaelab.system.arguments import check_names
from vaelab.system.signals import Interrupted
from vaelab.training.trackers import End

WAIT_SECONDS = 60.0
"""Time that the trackers get after the training to take what is left."""
POLL_SECONDS = 0.02
LATER = "the same command sends what is missing"


@contextmanager
def tracking(names: Any, watch: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Yield ``watch``, which also starts and ends the trackers with these names and receives what they report.

    UnknownName if there is no such tracker. Nothing that happens in a tracker reaches the training.
    """
    chosen = list(dict.fromkeys(check_names(names, "track")))
    for name in chosen:
        if name not in registry.names("trackers"):
            raise registry.unknown("tracker", name, registry.names("trackers"))
    processes: list[_Process] = []

    def begin(run: Run, wanted: list[str]) -> None:
        for name in wanted:
            try:
                processes.append(_Process(name, run))
            except OSError as error:
                watch(TrackerNote(f"{name}: {error}. The training continues", warning=True))

    def watch_and_track(event: Any) -> None:
        watch(event)
        if isinstance(event, Started):
            begin(event.run, chosen)
        elif isinstance(event, Finished) and event.already:
            begin(event.run, [name for name in chosen if not _is_complete(event.run, name)])
        for process in processes:
            process.pass_on(watch)
        if isinstance(event, Finished):
            _end(processes, "finished", watch)

    try:
        yield watch_and_track
    except BaseException as error:
        _end(processes, "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed", watch)
        raise


def _is_complete(run: Run, name: str) -> bool:
    """Return whether a tracker has everything of a run already."""
    with suppress(ValueError, OSError):  # the process reports what is wrong
        return bool(read_tracker_state(run.path, name).get("complete"))
    return False


def _end(processes: list["_Process"], end: End, watch: Callable[[Any], None]) -> None:
    """Tell the processes how the training ended, and wait until they have sent everything."""
    for process in processes:
        process.end(end)
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while any(not process.is_over for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            for process in processes:
                process.pass_on(watch)
    finally:
        for process in processes:
            if process.kill():
                watch(
                    TrackerNote(
                        f"{process.name}: not everything was taken in {WAIT_SECONDS:.0f} s; {LATER}", warning=True
                    )
                )
        processes.clear()


class _Process:
    """A process that mirrors a run to one tracker (``api/mirror.py``)."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.is_over = name, False
        self._lines, self._has_failed = queue.SimpleQueue[str](), False
        folder = run.path / TRACKERS
        folder.mkdir(exist_ok=True)
        self._log = folder / f"{name}.log"
        alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vaelab.api.mirror", name, str(run.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**alone, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the training
                encoding="utf-8",
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as reports:
            for line in reports:
                self._lines.put(line)

    def pass_on(self, watch: Callable[[Any], None]) -> None:
        """Pass on what the process has reported, and once if it ended without a report of its failure."""
        has_ended = not self._listener.is_alive()
        while not self._lines.empty():
            note = TrackerNote(**json.loads(self._lines.get()))
            self._has_failed |= note.warning
            watch(note)
        if has_ended and not self.is_over:
            self.is_over = True
            if self._process.wait() and not self._has_failed:
                watch(
                    TrackerNote(f"{self.name}: its process ended unexpectedly; see {self._log}. {LATER}", warning=True)
                )

    def end(self, end: End) -> None:
        """Tell the process how the training ended."""
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as orders:  # the process may have ended
            orders.write(f"{end}\n")

    def kill(self) -> bool:
        """End the process if it still runs; return whether it did."""
        is_running = self._process.poll() is None and self._listener.is_alive()
        self._process.kill()
        self._process.wait()
        return is_running
