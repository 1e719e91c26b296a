"""Requests to stop: SIGINT and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """The person or the system asked to stop; what was done is saved and the same command goes on."""

    exit_code = 130


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within this context SIGINT and SIGTERM only raise a flag; yields the function that reads it."""
    raised: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda signum, _frame: raised.append(signum))
    try:
        yield lambda: bool(raised)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
