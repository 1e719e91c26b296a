"""Descriptions of errors, and collections of failures in many pieces of work."""

import errno
import re
from collections.abc import Callable, Mapping

MEMORY_ADVICE = (
    "try a smaller training.batch_size, a smaller network or images, or fewer images at a time; or close other programs"
)
MEMORY_WORDS = ("alloc_cpu.cpp", "DefaultCPUAllocator", "CUDA out of memory", "not enough memory")
"""Words in torch's errors about a lack of memory, which have no class of their own on the CPU."""

OnFailure = Callable[[str, Exception], None]
"""Receives the name of a piece of work that failed, and its error."""


class PartialFailure(RuntimeError):
    """Some pieces of work failed; the others are done. ``reasons``: name → why it failed."""

    def __init__(self, what: str, reasons: Mapping[str, str]) -> None:
        super().__init__(f"{what}: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = dict(reasons)


class Failures:
    """Collects failures, as an ``OnFailure``, while the other pieces of work continue."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __call__(self, name: str, error: Exception) -> None:
        self.reasons[name] = describe_error(error)

    def raise_any(self, what: str) -> None:
        """Raise PartialFailure if anything failed."""
        if self.reasons:
            raise PartialFailure(what, self.reasons)


def is_of_system(error: Exception) -> bool:
    """Return whether an error comes from the system, such as a full disk or a request to stop.

    Such an error ends all work; the same command resumes it.
    """
    return (isinstance(error, OSError) and error.errno != errno.ENOMEM) or getattr(error, "exit_code", 0) == 130


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is about a lack of memory, on the CPU or on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)


def describe_error(error: BaseException) -> str:
    """Return one line about an error; for a lack of memory also what to do."""
    if is_out_of_memory(error):
        size = re.search(r"allocate (\d[\d,]*(?:\.\d+)?)\.? ?([KMGT]i?B|bytes)", str(error))
        return f"out of memory{f': {_format_size(*size.groups())} are not available' if size else ''}; {MEMORY_ADVICE}"
    text = " ".join(str(error).split())
    if isinstance(error, KeyError | IndexError | TypeError | AttributeError | ZeroDivisionError | AssertionError):
        return f"{type(error).__name__}: {text}"
    return text or type(error).__name__


def _format_size(number: str, unit: str) -> str:
    """Return an amount of memory, bytes as MB or GB."""
    if unit != "bytes":
        return f"{number} {unit}"
    count = float(number.replace(",", ""))
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
