"""What went wrong, as one sentence for a person."""

import errno
import re
from collections.abc import Callable, Mapping

MEMORY_ADVICE = (
    "try a smaller training.batch_size, a smaller network or images, or fewer images at a time; "
    "or end other programs that take memory"
)
MEMORY_WORDS = ("alloc_cpu.cpp", "DefaultCPUAllocator", "CUDA out of memory", "not enough memory")
"""Of the errors that torch raises for the lack of memory on the CPU, which have no class of their own."""

OnFailure = Callable[[str, Exception], None]
"""Is told the name of one of many pieces of work, and the error that it ended with."""


def is_of_system(error: Exception) -> bool:
    """Whether an error is of the system, not of the work: a disk that is full, or a request to stop.

    Such an error ends the whole; the same command goes on later.
    """
    return (isinstance(error, OSError) and error.errno != errno.ENOMEM) or getattr(error, "exit_code", 0) == 130


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is lacking, on the CPU or on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)


def describe_error(error: BaseException) -> str:
    """One line that says what went wrong; for a lack of memory also what to do about it."""
    if is_out_of_memory(error):
        size = re.search(r"allocate (\d[\d,]*(?:\.\d+)?)\.? ?([KMGT]i?B|bytes)", str(error))
        return f"out of memory{f': {_size(size[1], size[2])} cannot be had' if size else ''}; {MEMORY_ADVICE}"
    text = " ".join(str(error).split())
    if isinstance(error, KeyError | IndexError | TypeError | AttributeError | ZeroDivisionError | AssertionError):
        return f"{type(error).__name__}: {text}"
    return text or type(error).__name__


def _size(number: str, unit: str) -> str:
    """So much memory in a unit that people read."""
    if unit != "bytes":
        return f"{number} {unit}"
    count = float(number.replace(",", ""))
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


class PartialFailure(RuntimeError):
    """Some pieces of work failed; the others are done. ``reasons``: name → why it failed."""

    def __init__(self, what: str, reasons: Mapping[str, str]) -> None:
        super().__init__(f"{what}: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = dict(reasons)


class Failures:
    """Collects failures, while the other pieces of work go on; usable as an ``OnFailure``."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __call__(self, name: str, error: Exception) -> None:
        self.reasons[name] = describe_error(error)

    def raise_any(self, what: str) -> None:
        """Raise PartialFailure if anything failed."""
        if self.reasons:
            raise PartialFailure(what, self.reasons)
