"""``vaelab sweep --on``: the runs of a sweep on a Dask cluster, or as an array of jobs for SLURM.

``python -m vaelab.api.cluster`` trains one run on a Dask worker. It reads the arguments of ``train`` from stdin as one
line of JSON, and saves and stops when stdin ends, as it does if the worker is killed.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vaelab.api.plan import command
from vaelab.api.train import train
from vaelab.api.workers import SAVE_SECONDS, CommonArguments, Ended, Job, is_in_use
from vaelab.run import Run
from vaelab.system.errors import InputError, UsageError
from vaelab.system.failures import describe_error
from vaelab.system.signals import Interrupted

PORT, CONNECT_SECONDS, LOOK_SECONDS = 8786, 15, 0.5
"""Dask's usual port, time to find the scheduler, and time between two looks at a run in progress."""


def parse_address(on: str) -> str:
    """Return the address of the Dask scheduler in ``dask://HOST:PORT``; UsageError for anything else."""
    try:
        parts = urlsplit(on)
        if parts.scheme == "dask" and parts.hostname and parts.path in ("", "/"):
            return f"tcp://{parts.hostname}:{parts.port or PORT}"
    except ValueError:  # a port that is no number
        pass
    choices = ("dask://HOST:PORT", "slurm")
    raise UsageError(f"--on {on!r}: write {' or '.join(choices)}", subject="on", value=on, choices=choices)


class DaskWorkers:
    """Trains each job on a worker of a Dask cluster; Dask gives the job of a lost worker to another one.

    All workers must see the folders of the runs and of the data under the paths that they have here. InputError if
    there is no scheduler at the address, or no package dask.distributed.
    """

    def __init__(self, on: str, common: CommonArguments, connect_seconds: float = CONNECT_SECONDS) -> None:
        address = parse_address(on)
        try:
            import distributed
        except ImportError as error:
            raise InputError(f"--on {on} needs the extra dask: pip install 'vaelab[dask]' ({error})") from None
        try:
            self._client = distributed.Client(address, timeout=connect_seconds, set_as_default=False)
        except OSError:
            raise InputError(f"no Dask scheduler answers at {address} (--on {on})", subject="on", value=on) from None
        name = Path(common.name)
        self._common = replace(
            common,
            name=str(name.resolve()) if name.suffix == ".toml" else common.name,
            data=common.data and Path(common.data).resolve(),
        )
        self._stop_name = f"vaelab-stop-{uuid.uuid4().hex}"
        self._stop = distributed.Event(self._stop_name, client=self._client)
        self._working: dict[Any, Job] = {}

    @property
    def num_busy(self) -> int:
        """Number of jobs that Dask has."""
        return len(self._working)

    def start(self, job: Job) -> None:
        """Give a job to Dask."""
        given = self._common.arguments(replace(job, run=Run.at(job.run.path.resolve())))
        key = f"vaelab-{job.run.name}-{uuid.uuid4().hex}"
        self._working[self._client.submit(train_here, given, self._stop_name, key=key, pure=False)] = job

    def collect(self) -> list[Ended]:
        """Return the jobs that ended since the last call."""
        ended: list[Ended] = []
        for future in [future for future in self._working if future.done()]:
            job = self._working.pop(future)
            error = future.exception()
            reason = describe_error(error) if error else future.result()
            ended.append((job, "failed" if reason else "trained", reason))
        return ended

    def stop(self) -> None:
        """Ask all jobs in progress to save and stop, and wait for them."""
        try:
            if self._working:
                self._stop.set()
                deadline = time.monotonic() + SAVE_SECONDS
                waiting = [future for future in self._working if future.status == "pending"]
                while any(not future.done() for future in waiting) and time.monotonic() < deadline:
                    time.sleep(LOOK_SECONDS)
        finally:
            self._client.close()


def train_here(given: Mapping[str, Any], stop_name: str) -> str:
    """Train a run in a process of this Dask worker; return why it failed, or an empty text."""
    from distributed import Event

    asked, run = Event(stop_name), Run.at(given["run"])
    deadline = time.monotonic() + SAVE_SECONDS
    while is_in_use(run) and time.monotonic() < deadline:  # what a lost worker had begun saves and ends
        time.sleep(LOOK_SECONDS)
    if asked.is_set():
        return "not begun, because the sweep was stopped"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "vaelab.api.cluster"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
        assert process.stdin is not None
        with process.stdin as orders:
            orders.write(json.dumps(given).encode() + b"\n")
            orders.flush()
            while process.poll() is None and not asked.is_set():
                time.sleep(LOOK_SECONDS)
        code = process.wait()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    return (lines[-1] if lines else f"ended with exit code {code}") if code else ""


def _train_until_stdin_ends() -> int:
    """Train with the arguments on stdin; return the exit code."""
    given = json.loads(sys.stdin.readline())

    def stop_at_end() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_at_end, daemon=True).start()
    try:
        train(**given, progress=False)
    except (Interrupted, ValueError, OSError, RuntimeError, MemoryError) as error:
        print(describe_error(error), file=sys.stderr)
        return Interrupted.exit_code if isinstance(error, Interrupted) else 1
    return 0


def write_slurm_script(title: str, jobs: list[Job], common: CommonArguments, threads: int) -> str:
    """Return the text of a SLURM script with one task for each job; InputError if there is none."""
    if not jobs:
        raise InputError("nothing is left to train; without --on, the same command compares the runs")
    common = replace(common, data=common.data and Path(common.data).resolve())
    lines = []
    for i, job in enumerate(jobs):
        words = command(common.name, job.overrides, common.data, job.run.path.resolve(), common.device)
        track = "".join(f" --track {shlex.quote(name)}" for name in common.track)
        lines.append(f"  {i}) exec {words}{track} ;;")
    head = {"job-name": shlex.quote(title), "array": f"0-{len(jobs) - 1}", "cpus-per-task": threads}
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH --{option}={value}" for option, value in head.items()),
            "#SBATCH --requeue",
            "#SBATCH --signal=B:TERM@120",
            "# Add --time, --partition, --mem, --gres=gpu:1 and what activates your environment.",
            "# A task that was stopped or submitted again resumes.",
            "# Afterwards, the command of the sweep without --on compares the runs.",
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *lines,
            '  *) echo "no task $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;',
            "esac",
            "",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(_train_until_stdin_ends())
