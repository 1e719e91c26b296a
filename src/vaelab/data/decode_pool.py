"""Runs decoding jobs in several processes: this one begins, others join if the work takes longer than their start."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from vaelab.data import decode as decoding
from vaelab.system.machine import default_threads

SOLO_SECONDS = 1.0
"""Seconds that this process works alone; others take about as long to start."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Result = TypeVar("Result")


def run_jobs(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], num_processes: int | None = None
) -> Iterator[Result]:
    """Yield the result of ``function`` for the arguments of each job, in the order in which they finish.

    ``num_processes``: None: as many as there are processors, after ``SOLO_SECONDS`` of work; a number: that many at
    once. RuntimeError if the operating system killed one of them.
    """
    start, solo_seconds = time.monotonic(), SOLO_SECONDS if num_processes is None else 0.0
    processes = default_threads() if num_processes is None else num_processes
    for i, job in enumerate(jobs):
        if processes > 1 and len(jobs) - i > 1 and time.monotonic() - start >= solo_seconds:
            yield from _run_in_pool(function, jobs[i:], min(processes, len(jobs) - i))
            return
        yield function(*job)


def _run_in_pool(function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], processes: int) -> Iterator[Result]:
    from joblib.externals.loky import FIRST_COMPLETED, BrokenProcessPool, ProcessPoolExecutor, wait

    pool = ProcessPoolExecutor(processes, env=ONE_THREAD, initializer=decoding.begin_worker, initargs=(os.getpid(),))
    todo, is_complete = iter(jobs), False
    try:
        running = {pool.submit(function, *job) for job in itertools.islice(todo, 2 * processes)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                running |= {pool.submit(function, *job) for job in itertools.islice(todo, 1)}
        is_complete = True
    except BrokenProcessPool:
        raise RuntimeError(
            "a process that decodes images was killed, probably for lack of memory; run the same command to resume"
        ) from None
    finally:
        for worker in () if is_complete else list(pool._processes.values()):
            worker.terminate()  # the pool's own way waits, or fails where the system lacks a program
        pool.shutdown(wait=True)
