"""The machine under a run: device, precision, threads, seeds, signals, where data lies, progress."""

import hashlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "tf32", "bf16"]


class Interrupted(Exception):
    """The person or the system asked to stop; what was done is saved and the same command goes on."""

    exit_code = 130


# -- device and precision ---------------------------------------------------------------------------------------------


def resolve_device(name: str) -> torch.device:
    """``auto`` → the first CUDA device if there is one, else the CPU; anything else is torch's own name of a device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here ({reason}); try --device cpu") from None
    return device


def resolve_precision(precision: Precision) -> Precision:
    """What ``auto`` means: fp32 everywhere until a faster one has been shown to keep results (docs/log.md)."""
    return "fp32" if precision == "auto" else precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which networks run forward; weights, losses and the optimizer stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def settled(device: torch.device, precision: Precision, threads: int) -> Iterator[None]:
    """Torch set up so that the same work gives the same bits, and put back as it was afterwards."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this set
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.backends.cuda.matmul.allow_tf32 = before[2]
        torch.backends.cudnn.allow_tf32 = before[3]
        torch.backends.cudnn.benchmark = before[4]


def default_threads() -> int:
    """``$OMP_NUM_THREADS``, else the processors that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


class Noise:
    """Random numbers that are a pure function of (seed, step, order of the calls within the step).

    On the CPU they come from NumPy's Philox with the step in its counter, on CUDA from torch's Philox with the step in
    its offset: nothing has to be stored to resume.
    """

    OFFSETS_PER_STEP = 1 << 32
    """How far apart the steps lie in CUDA's stream of random numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._key = derive_seed(seed, "noise")
        self._cuda = torch.Generator(device) if device.type == "cuda" else None
        self.seek(0)

    def seek(self, step: int) -> None:
        """Start the numbers of ``step``."""
        if self._cuda is None:
            self._cpu = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, step, 0]))
        else:
            self._cuda.manual_seed(self._key)
            self._cuda.set_offset(step * self.OFFSETS_PER_STEP)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32."""
        if self._cuda is not None:
            return torch.randn(shape, generator=self._cuda, device=self.device)
        return torch.from_numpy(self._cpu.standard_normal(shape, dtype=np.float32)).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float32."""
        if self._cuda is not None:
            return torch.rand(shape, generator=self._cuda, device=self.device)
        return torch.from_numpy(self._cpu.random(shape, dtype=np.float32)).to(self.device)


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


def show_progress(factory: ProgressFactory) -> None:
    """Render progress from now on; the command line calls this, as a library vaelab stays silent."""
    global _factory
    _factory = factory


def progress(label: str, total: int | None) -> AbstractContextManager[Progress]:
    """A context for one long piece of work of ``total`` units (None: unknown)."""
    return _factory(label, total)
