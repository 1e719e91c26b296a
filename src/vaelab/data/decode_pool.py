"""Decoding by several processes: this one begins, and others join if the work takes longer than they need to start."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from vaelab.data import decode as decoding
from vaelab.system.device import default_threads

ALONE_SECONDS = 1.0
"""This process decodes alone for so long; others take as long to start."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Result = TypeVar("Result")


def run_jobs(function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
    """The result of ``function`` for the arguments of each job, in the order in which they end.

    RuntimeError if the system killed one of the processes.
    """
    began, processes = time.monotonic(), default_threads()
    for i, job in enumerate(jobs):
        if processes > 1 and len(jobs) - i > 1 and time.monotonic() - began >= ALONE_SECONDS:
            yield from _run_in_pool(function, jobs[i:], min(processes, len(jobs) - i))
            return
        yield function(*job)


def _run_in_pool(function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], processes: int) -> Iterator[Result]:
    from joblib.externals.loky import FIRST_COMPLETED, BrokenProcessPool, ProcessPoolExecutor, wait

    pool = ProcessPoolExecutor(processes, env=ONE_THREAD, initializer=decoding.begin_worker, initargs=(os.getpid(),))
    todo, is_whole = iter(jobs), False
    try:
        running = {pool.submit(function, *job) for job in itertools.islice(todo, 2 * processes)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
                running |= {pool.submit(function, *job) for job in itertools.islice(todo, 1)}
        is_whole = True
    except BrokenProcessPool:
        raise RuntimeError(
            "a process that decoded pictures was killed, most likely for want of memory; the same command goes on"
        ) from None
    finally:
        for worker in () if is_whole else list(pool._processes.values()):
            worker.terminate()  # the pool's own way waits, or fails where the system lacks a program
        pool.shutdown(wait=True)
