"""Training of many runs: one after the other in this process, or several at a time in processes of their own."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from vaelab.api.events import Note, Watch
from vaelab.api.plan import command
from vaelab.api.train import train
from vaelab.run import Run, RunInUse
from vaelab.system.failures import describe_error
from vaelab.system.signals import Interrupted

POLL_SECONDS = 0.1
SAVE_SECONDS = 60.0
"""Time that a process gets to save after it was asked to stop."""


@dataclass(frozen=True)
class Job:
    """A run to be trained with these overrides of a recipe."""

    run: Run
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class CommonArguments:
    """Arguments of ``train`` that all jobs have in common."""

    name: str
    data: str | Path | None
    device: str
    track: Sequence[str] = ()

    def arguments(self, job: Job) -> dict[str, Any]:
        """Return the arguments of ``train`` for a job; all of them can be written as JSON."""
        return {
            "name": self.name,
            "set": dict(job.overrides),
            "data": None if self.data is None else str(self.data),
            "run": str(job.run.path),
            "device": self.device,
            "track": list(self.track),
        }


@runtime_checkable
class Workers(Protocol):
    """A place that trains jobs."""

    @property
    def num_busy(self) -> int:
        """Number of jobs in progress."""

    def start(self, job: Job) -> None:
        """Begin a job."""

    def collect(self) -> "list[Ended]":
        """Return the jobs that ended since the last call."""

    def stop(self) -> None:
        """Ask all jobs in progress to save and stop, and wait for them."""


Ended = tuple[Job, str, str]
"""(job, state, reason of a failure); the state is "trained", "done" (it was before) or "failed"."""


def train_all(jobs: Sequence[Job], workers: Workers, num_workers: int, watch: Watch) -> Generator[Ended, None, None]:
    """Train the runs that are not finished, ``num_workers`` at a time; yield how each ended.

    A run that another process trains, such as one that outlived a killed sweep, is waited for. Raises Interrupted when
    asked to stop, after all runs in progress have saved.
    """
    waiting, has_told = list(jobs), False
    try:
        while waiting or workers.num_busy:
            yield from workers.collect()
            for job in [job for job in waiting if job.run.is_finished]:
                waiting.remove(job)
                yield job, "done", ""
            free = next((job for job in waiting if not is_in_use(job.run)), None)
            if free is not None and workers.num_busy < num_workers:
                waiting.remove(free)
                workers.start(free)
            elif waiting or workers.num_busy:
                if not has_told and not workers.num_busy:
                    has_told = True
                    watch(Note(f"waiting for another process that trains {waiting[0].run.path}", warning=True))
                time.sleep(POLL_SECONDS)
        yield from workers.collect()
    except KeyboardInterrupt:
        raise Interrupted("stopped, and all runs in progress saved; the same command resumes them") from None
    finally:
        workers.stop()


def is_in_use(run: Run) -> bool:
    """Return whether a process trains a run."""
    if not run.exists:
        return False
    try:
        with run.locked():
            return False
    except RunInUse:
        return True


class ThisProcess:
    """Trains one job at a time."""

    num_busy = 0

    def __init__(self, common: CommonArguments, watch: Watch) -> None:
        self._common, self._watch = common, watch
        self._ended: list[Ended] = []

    def start(self, job: Job) -> None:
        """Train a job to its end."""
        try:
            train(**self._common.arguments(job), watch=self._watch, progress=False)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self._ended.append((job, "failed", describe_error(error)))
        else:
            self._ended.append((job, "trained", ""))

    def collect(self) -> list[Ended]:
        """Return the jobs that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Do nothing: no job is in progress."""


class Processes:
    """Trains each job in a process of its own, with the command ``vaelab train``."""

    def __init__(self, common: CommonArguments) -> None:
        self._common = common
        self._working: dict[subprocess.Popen[bytes], tuple[Job, IO[bytes]]] = {}

    @property
    def num_busy(self) -> int:
        """Number of jobs in progress."""
        return len(self._working)

    def start(self, job: Job) -> None:
        """Start a process; its errors go to a file, because a pipe that nobody reads would block it."""
        common = self._common
        words = shlex.split(command(common.name, job.overrides, common.data, job.run.path, common.device))
        words += [word for name in common.track for word in ("--track", name)]
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        self._working[process] = job, errors

    def collect(self) -> list[Ended]:
        """Return the jobs that ended since the last call; raise KeyboardInterrupt if one was interrupted."""
        ended = []
        for process in [process for process in self._working if process.poll() is not None]:
            job, errors = self._working.pop(process)
            with errors:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
            if process.returncode == Interrupted.exit_code:
                raise KeyboardInterrupt  # Ctrl-C reaches every process of a terminal
            if process.returncode == 0:
                ended.append((job, "trained", ""))
            else:
                reason = lines[-1] if lines else f"ended with exit code {process.returncode}"
                ended.append((job, "failed", reason.removeprefix("vaelab: ")))
        return ended

    def stop(self) -> None:
        """Ask all jobs in progress to save and stop, and wait for them."""
        for process in self._working:
            process.terminate()
        try:
            for process in self._working:
                process.wait(SAVE_SECONDS)
        finally:
            for process, (_, errors) in self._working.items():
                if process.poll() is None:
                    process.kill()
                    process.wait()
                errors.close()
            self._working.clear()
