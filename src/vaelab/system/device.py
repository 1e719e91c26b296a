"""The machine under a run: device, precision, threads, seeds, signals, where data lies, progress."""

import ctypes
import hashlib
import os
import platform
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.amp import is_autocast_available

from vaelab.system.arguments import describe
from vaelab.system.distributed import Shard, launched

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


class Interrupted(Exception):
    """The person or the system asked to stop; what was done is saved and the same command goes on."""

    exit_code = 130


# -- device and precision ---------------------------------------------------------------------------------------------


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
    if launched().size > 1 and name.startswith("cuda:"):
        raise ValueError(f"device {name!r}: several processes take one each; say --device cuda")
    if launched().size > 1 and name == "cuda":
        name = f"cuda:{launched().local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UnknownDevice(f"device {name!r} cannot be used here ({reason}); try --device cpu") from None
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` means on a device: the fastest that was shown to keep results (docs/performance.md).

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


# -- seeds ------------------------------------------------------------------------------------------------------------


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed of its own for each purpose, a pure function of ``seed`` and the words given."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class Noise(ABC):
    """Where a forward pass takes its random numbers from, for the images of this process."""

    share: Shard | None = None
    """Which images of a global batch this process has; None: all."""

    @abstractmethod
    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32."""

    @abstractmethod
    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32."""


class GeneratorNoise(Noise):
    """Random numbers of a torch generator on the CPU, moved to ``device``; for evaluation."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self._generator, self._device = generator, device

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32."""
        return torch.randn(count, *shape, generator=self._generator).to(self._device)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32."""
        return torch.rand(count, *shape, generator=self._generator).to(self._device)


class StepNoise(Noise):
    """Random numbers that are a pure function of (seed, step, order of the calls within the step).

    On the CPU they come from NumPy's Philox with the step in its counter, on CUDA from torch's Philox with the step in
    its offset: nothing has to be stored to resume.
    """

    OFFSETS_PER_STEP = 1 << 32
    """How far apart the steps lie in CUDA's stream of random numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.share: Shard | None = None
        self._key = derive_seed(seed, "noise")
        self._cuda = torch.Generator(device) if device.type == "cuda" else None
        self.seek(0)

    def seek(self, step: int, share: Shard | None = None) -> None:
        """Start the numbers of ``step``; of those for a whole batch this process takes its ``share`` (None: all)."""
        self.share = share
        if self._cuda is None:
            self._cpu = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, step, 0]))
        else:
            self._cuda.manual_seed(self._key)
            self._cuda.set_offset(step * self.OFFSETS_PER_STEP)

    @property
    def generator(self) -> torch.Generator | None:
        """What the numbers come from on CUDA, for graphs to register."""
        return self._cuda

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32, for the images of this process."""
        if self._cuda is not None:
            return self._own(torch.randn(self._whole(count), *shape, generator=self._cuda, device=self.device))
        drawn = self._cpu.standard_normal((self._whole(count), *shape), dtype=np.float32)
        return self._own(torch.from_numpy(drawn).to(self.device))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32, for the images of this process."""
        if self._cuda is not None:
            return self._own(torch.rand(self._whole(count), *shape, generator=self._cuda, device=self.device))
        drawn = self._cpu.random((self._whole(count), *shape), dtype=np.float32)
        return self._own(torch.from_numpy(drawn).to(self.device))

    def _whole(self, count: int) -> int:
        """Rows to draw, so that every rank draws the same numbers."""
        assert self.share is None or count == max(len(self.share), 1)
        return count if self.share is None else self.share.total

    def _own(self, drawn: Tensor) -> Tensor:
        if self.share is None:
            return drawn
        start = min(self.share.start, self.share.total - 1)  # a rank without images works on one that counts nothing
        return drawn[start : max(self.share.stop, start + 1)]


# -- signals ----------------------------------------------------------------------------------------------------------


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


# -- where data lies --------------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """The user's cache for vaelab: ``$XDG_CACHE_HOME/vaelab`` or what the system uses instead."""
    import pooch

    return Path(pooch.os_cache("vaelab"))


def data_roots(data_dir: Path | None) -> list[Path]:
    """The folders to search, in order: the one given and it alone; else ``$VAELAB_DATA``, then the user's cache."""
    if data_dir is not None:
        if not data_dir.exists():
            raise FileNotFoundError(f"{data_dir}: no such folder (given as the place of the data)")
        return [data_dir]
    given = os.environ.get("VAELAB_DATA")
    if given and not Path(given).exists():
        raise FileNotFoundError(f"{given}: no such folder (named by $VAELAB_DATA)")
    return ([Path(given)] if given else []) + [cache_dir()]


# -- progress ---------------------------------------------------------------------------------------------------------


@runtime_checkable
class Progress(Protocol):
    """What a long piece of work reports to."""

    def expect(self, total: int) -> None:
        """The total, where it becomes known only now."""

    def advance(self, amount: int) -> None:
        """``amount`` more of the total is done."""


class _Silent:
    def expect(self, total: int) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass


ProgressFactory = Callable[[str, int | None], AbstractContextManager[Progress]]
_factory: ProgressFactory = lambda _label, _total: nullcontext(_Silent())  # noqa: E731


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


_say: Callable[[str], None] = _warn


def show_progress(factory: ProgressFactory, say: Callable[[str], None] = _warn) -> None:
    """Render progress with ``factory`` and pass what ``say`` is told to a function of the command line's.

    As a library vaelab shows no progress, and a sentence for the person is a warning.
    """
    global _factory, _say
    _factory, _say = factory, say


def say(text: str) -> None:
    """Tell the person one sentence; only the first of several processes does."""
    if launched().is_first:
        _say(text)


def progress(label: str, total: int | None) -> AbstractContextManager[Progress]:
    """A context for one long piece of work of ``total`` units (None: unknown)."""
    return _factory(label, total)
