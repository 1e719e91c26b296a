"""Devices, precision, threads and memory of this machine."""

import ctypes
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch.amp import is_autocast_available

from vaelab.system.arguments import describe
from vaelab.system.distributed import launched_group
from vaelab.system.errors import UsageError
from vaelab.system.machine import Precision

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags of x86 processors with bfloat16 instructions; on others bfloat16 is slower than float32."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""

WITHOUT_FLOAT64 = {"mps"}
"""Types of devices that have no float64."""

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic; it is read once


class UnknownDevice(UsageError):
    """A device that does not exist on this machine or cannot be used; ``choices`` are the devices that exist."""


def find_devices() -> list[str]:
    """Return the names of the devices of this machine."""
    names = ["auto", "cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is CUDA if there is such a device, else Apple's MPS, else the CPU.

    In distributed training each process of a host gets its own CUDA device, or else the CPU. Raises UnknownDevice.
    """
    devices, group = find_devices(), launched_group()
    if name not in devices:
        message = f"device {describe(name)} is not here; valid: {', '.join(devices)}"
        raise UnknownDevice(message, subject="device", value=name, choices=devices)
    if name == "auto":
        name = choose_device(devices, group.world_size)
    if group.world_size > 1 and name == "mps":
        raise UsageError(
            f"device {name!r} cannot be shared by processes; use --device cpu", subject="device", value=name
        )
    if group.world_size > 1 and name.startswith("cuda:"):
        message = f"device {name!r}: each process needs a device of its own; use --device cuda"
        raise UsageError(message, subject="device", value=name)
    if group.world_size > 1 and name == "cuda":
        name = f"cuda:{group.local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:100]
        message = f"device {name!r} cannot be used here ({reason}); try --device cpu"
        raise UnknownDevice(message, subject="device", value=name, choices=devices) from None
    return device


def choose_device(devices: Iterable[str], num_processes: int = 1) -> str:
    """Return the fastest of the ``devices`` that one of several processes may use."""
    usable = [name for name in ("cuda", "mps", "cpu") if name in devices and (name != "mps" or num_processes == 1)]
    return usable[0]


def widest_float(device: torch.device) -> torch.dtype:
    """Return the widest type of floating-point numbers that a device has: float64, on MPS float32."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def describe_limits(device: torch.device) -> str:
    """Return in one sentence what a device does otherwise than others; empty if nothing."""
    if device.type not in WITHOUT_FLOAT64:
        return ""
    return (
        f"{device.type} has no float64: sums are in float32, networks in fp32; bits may differ from run to run "
        "(vaelab was never run on this kind of device)"
    )


def resolve_precision(
    precision: Precision | Literal["auto"], device: torch.device, processor_flags: Iterable[str] | None = None
) -> Precision:
    """Return the precision; "auto" is the fastest one that was shown to keep results.

    That is TF32 on CUDA, bf16 on processors with bfloat16 instructions, and fp32 elsewhere. MPS always has fp32.
    ``processor_flags``: as in /proc/cpuinfo (None: those of this processor).
    """
    if device.type == "mps":
        return "fp32"
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "tf32"
    flags = _read_cpuinfo("flags").split() if processor_flags is None else processor_flags
    return "bf16" if device.type == "cpu" and BFLOAT16_FLAGS & set(flags) else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which networks run forward; weights, losses and the optimizer stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations keep the type of their inputs, also inside ``autocast``."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


@contextmanager
def deterministic(device: torch.device, precision: Precision, threads: int) -> Iterator[None]:
    """Set torch so that the same work gives the same bits inside this context."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    _keep_freed_memory()
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), _flushes_denormals()
    _set_threads(threads, flush_denormals=True)
    mode = "default" if device.type == "mps" else "error"  # some operations of MPS do not repeat bit for bit
    torch.set_deterministic_debug_mode(mode)  # use_deterministic_algorithms would import a compiler, 0.8 s
    with _attributes(
        (torch.utils.deterministic, "fill_uninitialized_memory", False),  # it would write every buffer twice
        (torch.backends.cuda.matmul, "allow_tf32", precision == "tf32"),
        (torch.backends.cudnn, "allow_tf32", precision == "tf32"),
        (torch.backends.cudnn, "benchmark", False),
    ):
        try:
            yield
        finally:
            _set_threads(before[0], flush_denormals=before[2])
            torch.set_deterministic_debug_mode(before[1])


def _set_threads(count: int, *, flush_denormals: bool) -> None:
    """Set the number of CPU threads, and whether they replace numbers below 1.2e-38 by 0.

    A matrix product with such numbers, for example gradients of a mixture's unused components, may take 70 times as
    long as one without. The setting holds in the calling thread and in threads that it starts later, so the other
    threads are started again.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(flush_denormals)
    torch.set_num_threads(count)


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-40) * 1) == 0


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Let CUDA multiply float32 numbers without TF32 inside this context."""
    with _attributes((torch.backends.cuda.matmul, "allow_tf32", False), (torch.backends.cudnn, "allow_tf32", False)):
        yield


@contextmanager
def _attributes(*settings: tuple[Any, str, bool]) -> Iterator[None]:
    """Set attributes (object, name, value) inside this context."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for later allocations of this process.

    By default it returns large buffers to the system, and each step pays for thousands of new pages: 14 % of a step of
    ``celeba`` on the CPU (docs/log.md). Other allocators are left alone.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # older versions refuse more than 32 MiB; if both are refused, the trim threshold alone would do harm
        if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25):
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Return device, processor, threads and the versions that a result depends on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _read_cpuinfo("model name") or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("vaelab", "torch", "numpy")},
    }


def _read_cpuinfo(field: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo; empty if it is unknown."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(field):
                return line.split(":", 1)[1].strip()
    return ""
