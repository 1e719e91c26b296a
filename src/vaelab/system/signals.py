"""Requests to stop or to finish: SIGINT and SIGTERM."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

Ask = Callable[[], int]
"""Returns the present Request."""


class Interrupted(Exception):
    """The user or the system asked to stop; the work is saved and the same command resumes it."""

    exit_code = 130


class Request(IntEnum):
    """A request to the training process, handled after the current batch."""

    NONE = 0
    STOP = 1
    """Save and stop; to be resumed."""
    FINISH = 2
    """End here, as if the training had been asked for at this length."""


class Signals:
    """The signals that arrived; the first one asks to stop, a second SIGINT (Ctrl-C) to finish."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.interrupts = False
        """Whether a signal also raises KeyboardInterrupt."""

    def receive(self, number: int, _frame: object) -> None:
        """Note a signal, as its handler."""
        self.received.append(number)
        if self.interrupts:
            raise KeyboardInterrupt

    def __call__(self) -> Request:
        """Return what the signals ask for."""
        if self.received.count(signal.SIGINT) > 1:
            return Request.FINISH
        return Request.STOP if self.received else Request.NONE

    @property
    def can_repeat(self) -> bool:
        """Whether a person at a terminal pressed Ctrl-C once, and may press it again."""
        return self.received == [signal.SIGINT] and sys.stdin is not None and sys.stdin.isatty()

    def wait_for_another(self, seconds: float) -> bool:
        """Return whether the signals ask to finish within this time."""
        end = time.monotonic() + seconds
        while self() != Request.FINISH and time.monotonic() < end:
            time.sleep(0.05)
        return self() == Request.FINISH


@contextmanager
def stop_signals() -> Iterator[Signals]:
    """Yield the SIGINT and SIGTERM that arrive; they do nothing else inside this context, unless told to interrupt."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signals.receive)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
