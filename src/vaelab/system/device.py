"""Devices, precision, threads and memory of this machine."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch.amp import is_autocast_available

from vaelab.system.arguments import describe
from vaelab.system.distributed import launched_group

Precision = Literal["auto", "fp32", "tf32", "bf16"]
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Of x86 processors that multiply bfloat16 numbers themselves; others would be slower than in float32."""

CONTAINER_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Where Linux says how much memory a container may take and has taken (control groups, version 2 and 1)."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's ``mallopt``."""

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS, which reads it once, repeats itself only with it


class UnknownDevice(ValueError):
    """A device that is not here; the message lists those that are."""

    exit_code = 2


def find_devices() -> list[str]:
    """The names of the devices that can be used here."""
    names = ["auto", "cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def resolve_device(name: str) -> torch.device:
    """``auto`` → a CUDA device if there is one, else the CPU; else one of ``find_devices``, or UnknownDevice.

    Of several processes on a host each gets the CUDA device of its own number.
    """
    devices = find_devices()
    if name not in devices:
        raise UnknownDevice(f"device {describe(name)} is not here; valid: {', '.join(devices)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if launched_group().world_size > 1 and name.startswith("cuda:"):
        raise ValueError(f"device {name!r}: several processes take one each; say --device cuda")
    if launched_group().world_size > 1 and name == "cuda":
        name = f"cuda:{launched_group().local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UnknownDevice(f"device {name!r} cannot be used here ({reason}); try --device cpu") from None
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` means on a device: the fastest that was shown to keep results (docs/explanation/performance.md).

    bf16 on processors that have instructions for it; TF32, which rounds less, on CUDA; fp32 elsewhere.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "tf32"
    return "bf16" if device.type == "cpu" and BFLOAT16_FLAGS & _processor_flags() else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which networks run forward; weights, losses and the optimizer stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The context in which operations keep the type of their inputs, whatever ``autocast`` surrounds it."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


@contextmanager
def deterministic(device: torch.device, precision: Precision, threads: int) -> Iterator[None]:
    """Torch set up so that the same work gives the same bits, and put back as it was afterwards."""
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )
    if device.index is not None:
        torch.cuda.set_device(device)
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import a compiler: 0.8 s
    # a debugging aid that writes every buffer twice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.allow_tf32 = before[3]
        torch.backends.cudnn.allow_tf32 = before[4]
        torch.backends.cudnn.benchmark = before[5]


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Within this context CUDA multiplies float32 numbers as they are, without TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for what is allocated next, for the rest of this process.

    By default it gives large buffers back to the system, and each step pays for thousands of fresh pages: 14 % of a
    step of ``celeba`` on the CPU (docs/log.md). Where there is no such allocator, nothing happens.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # older ones refuse more than 32 MiB; where both are refused, the other setting would do harm
        if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25):
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def default_threads() -> int:
    """``$OMP_NUM_THREADS``, else the processors that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that this process may still take: what the system has left, within what its container is allowed."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    for limit, used in CONTAINER_LIMITS:  # "max", where there is none, is no number
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(min(found, default=1 << 30), 0)


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Device, processor, threads and the versions that a result depends on."""
    packages = ("vaelab", "torch", "numpy")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _processor_flags() -> set[str]:
    """What the processor can do, in Linux's words; empty where nobody says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
