"""Many runs trained one after the other in this process, or several at a time in processes of their own."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vaelab.api.plan import command
from vaelab.api.train import Event, Note, train
from vaelab.run import Run, RunInUse
from vaelab.system.failures import describe_error
from vaelab.system.signals import Interrupted

WAIT_SECONDS = 0.1
"""Between two looks at processes that train."""
PATIENCE_SECONDS = 60.0
"""For a process that was asked to stop to save what it has."""


@dataclass(frozen=True)
class Job:
    """A run to be trained with these overrides of a recipe."""

    run: Run
    overrides: Mapping[str, Any]


Ended = tuple[Job, str, str]
"""A job, "trained", "done" (it was before) or "failed", and why it failed."""
Watch = Callable[[Event], None]


def train_all(
    jobs: Sequence[Job], name: str, at_once: int, *, data: str | Path | None, device: str, watch: Watch
) -> Generator[Ended, None, None]:
    """Train what is not finished, ``at_once`` at a time, and say of each how it ended.

    What another process is training (one that outlived a sweep that was killed, say) is waited for. Raises Interrupted
    when asked to stop, after everything under way has been saved.
    """
    workers = _Processes(name, data, device) if at_once > 1 else _Here(name, data, device, watch)
    waiting, told = list(jobs), False
    try:
        while waiting or workers.busy:
            yield from workers.ended()
            for job in [job for job in waiting if job.run.is_finished]:
                waiting.remove(job)
                yield job, "done", ""
            free = next((job for job in waiting if not _is_in_use(job.run)), None)
            if free is not None and workers.busy < at_once:
                waiting.remove(free)
                workers.start(free)
            elif waiting or workers.busy:
                if not told and not workers.busy:
                    told = True
                    watch(
                        Note(f"{waiting[0].run.path} is being trained by another process: waits for it", warning=True)
                    )
                time.sleep(WAIT_SECONDS)
        yield from workers.ended()
    except KeyboardInterrupt:
        raise Interrupted("stopped, and all runs under way saved; the same command goes on from here") from None
    finally:
        workers.stop()


def _is_in_use(run: Run) -> bool:
    if not run.exists:
        return False
    try:
        with run.locked():
            return False
    except RunInUse:
        return True


class _Here:
    """One job at a time, in this process."""

    busy = 0

    def __init__(self, name: str, data: str | Path | None, device: str, watch: Watch) -> None:
        self._name, self._data, self._device, self._watch = name, data, device, watch
        self._ended: list[Ended] = []

    def start(self, job: Job) -> None:
        """Do all of it."""
        try:
            train(self._name, job.overrides, data=self._data, run=job.run.path, device=self._device, watch=self._watch)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self._ended.append((job, "failed", describe_error(error)))
        else:
            self._ended.append((job, "trained", ""))

    def ended(self) -> Iterator[Ended]:
        """What has ended since the last look."""
        while self._ended:
            yield self._ended.pop(0)

    def stop(self) -> None:
        """Nothing is under way."""


class _Processes:
    """A process for each job: the command line's own ``train``."""

    def __init__(self, name: str, data: str | Path | None, device: str) -> None:
        self._name, self._data, self._device = name, data, device
        self._working: dict[subprocess.Popen[bytes], tuple[Job, IO[bytes]]] = {}

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return len(self._working)

    def start(self, job: Job) -> None:
        """Begin it; what it complains of goes to a file, since nobody reads while it works."""
        words = shlex.split(command(self._name, job.overrides, self._data, job.run.path, self._device))
        said = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        self._working[process] = job, said

    def ended(self) -> Iterator[Ended]:
        """What has ended since the last look."""
        for process in [process for process in self._working if process.poll() is not None]:
            job, said = self._working.pop(process)
            with said:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
            if process.returncode == Interrupted.exit_code:
                raise KeyboardInterrupt  # a Ctrl-C reaches every process of a terminal
            if process.returncode == 0:
                yield job, "trained", ""
            else:
                reason = lines[-1] if lines else f"ended with exit code {process.returncode}"
                yield job, "failed", reason.removeprefix("vaelab: ")

    def stop(self) -> None:
        """Ask all that are under way to save and stop, and wait until they have."""
        for process in self._working:
            process.terminate()
        try:
            for process in self._working:
                process.wait(PATIENCE_SECONDS)
        finally:
            for process, (_, said) in self._working.items():
                if process.poll() is None:
                    process.kill()
                    process.wait()
                said.close()
            self._working.clear()
