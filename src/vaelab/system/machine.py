"""Processors, memory, installed packages and clock of this machine, without torch."""

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "tf32", "bf16"]
CONTAINER_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with the memory limit and the memory use of a container (control groups, versions 2 and 1)."""


def default_threads() -> int:
    """Return ``$OMP_NUM_THREADS`` if it is set, else the number of processors that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(container_limits: Iterable[tuple[str | Path, str | Path]] = CONTAINER_LIMITS) -> int:
    """Return the bytes that this process may still take, within the free memory and the limit of its container.

    ``container_limits``: pairs of files with the limit and the present use.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    for limit, used in container_limits:  # without a limit the file holds "max", which is no number
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(min(found, default=1 << 30), 0)


def find_version(package: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def now() -> str:
    """Return date and time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
