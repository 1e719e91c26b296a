"""Child processes in which a command runs and is disturbed: killed, denied a system call, kept to little memory.

A child is a fork of this process, which has imported everything already, so that a case does not pay for imports. This
process must never run torch itself, because a fork of a process with autograd threads cannot train.
"""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

TIMEOUT = 120.0
"""Seconds after which a command counts as hanging; generous, because the machine may be busy."""
CRASHED = 99
"""Exit code of a child whose Python code raised."""
ANY_TRACER = ctypes.c_ulong(-1)
SET_TRACER = 0x59616D61
"""``prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)``: lets strace attach without being the parent."""
MODULES = (
    "matplotlib.figure", "matplotlib.backends.backend_agg", "pyarrow.csv", "pyarrow.parquet", "scipy.stats",
    "sklearn.mixture", "pydantic.type_adapter", "safetensors.torch", "sympy", "networkx", "torch._dynamo",
    "torch.distributed", "torch.onnx", "onnx.reference", "onnxscript.optimizer", "onnxscript.rewriter",
)  # fmt: skip
"""Modules that commands import when they need them, which is most of the time of a short command."""


@dataclass(frozen=True)
class Strace:
    """System calls to watch, and one of them to disturb."""

    trace: str
    """System calls written to the log, such as ``openat,write``."""
    log: Path
    inject: str = ""
    """Such as ``write:signal=KILL:when=3``: the third write of the main thread."""


@dataclass(frozen=True)
class Limits:
    """Limits at which a child is stopped."""

    seconds: float = TIMEOUT
    memory: int | None = None
    """Bytes of address space in addition to those at the start."""
    kill_after: float | None = None
    """Seconds until SIGKILL."""


@dataclass(frozen=True)
class Ended:
    """The end of a child."""

    code: int
    """Exit code, or minus the number of the signal."""
    out: str
    err: str
    seconds: float
    peak: int
    """Largest number of bytes of memory in addition to those at the start."""
    timed_out: bool = False

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def preload() -> None:
    """Import the modules of all commands before the first fork."""
    for name in MODULES:
        with suppress(ImportError):  # an extra that is not installed
            import_module(name)
    import torch
    from PIL import Image

    import vaelab
    import vaelab.cli
    from vaelab.system import registry

    for name in vaelab.__all__:
        getattr(vaelab, name)
    for folder in registry.PACKAGES:
        for name in registry.names(folder):
            registry.load(folder, name)
    Image.init()
    torch.set_num_threads(1)


def run_command(
    words: Sequence[str],
    folder: Path,
    outputs: Path,
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    strace: Strace | None = None,
) -> Ended:
    """Run a vaelab command in ``folder``; its output goes through files in ``outputs``."""

    def work() -> None:
        from vaelab import cli

        sys.argv = ["vaelab", *words]
        cli.main()

    return run_function(work, folder, outputs, environment=environment, limits=limits, strace=strace)


def run_function(
    work: Callable[[], object],
    folder: Path,
    outputs: Path,
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    strace: Strace | None = None,
) -> Ended:
    """Run ``work`` in a child with the working directory ``folder``; return its output."""
    limits = limits or Limits()
    outputs.joinpath("rss").write_text("0")
    (ready, go), (begun, is_set_up) = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        _become(work, folder, environment or {}, limits.memory, outputs, (is_set_up, ready))
    os.close(ready)
    os.close(is_set_up)
    os.read(begun, 1)  # strace counts system calls from here on
    os.close(begun)
    tracer = _attach(strace, pid) if strace else None
    began = time.monotonic()
    os.close(go)  # the child was waiting for this
    status, peak, timed_out = _wait(pid, began, limits)
    seconds = time.monotonic() - began
    if tracer is not None:
        tracer.wait(30)
    _end_group(pid)
    own = int((outputs / "rss").read_text())
    return Ended(
        os.waitstatus_to_exitcode(status),
        (outputs / "stdout").read_text(encoding="utf-8", errors="replace"),
        (outputs / "stderr").read_text(encoding="utf-8", errors="replace"),
        seconds,
        max(0, peak - own),
        timed_out,
    )


def _become(
    work: Callable[[], object],
    folder: Path,
    environment: Mapping[str, str],
    memory: int | None,
    outputs: Path,
    pipes: tuple[int, int],
) -> NoReturn:
    """Run the child from the fork to its end."""
    code = CRASHED
    try:
        os.setsid()
        for number, name in enumerate(("stdout", "stderr"), 1):
            handle = os.open(outputs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, number)
            os.close(handle)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        os.environ.update(environment)
        if memory is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        (outputs / "rss").write_text(str(_resident()))
        ctypes.CDLL(None).prctl(SET_TRACER, ANY_TRACER, 0, 0, 0)
        is_set_up, ready = pipes
        os.write(is_set_up, b"x")
        os.read(ready, 1)
        work()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _attach(strace: Strace, pid: int) -> subprocess.Popen[bytes]:
    """Attach strace to a child's main thread, and return once it is attached."""
    inject = ["-e", f"inject={strace.inject}"] if strace.inject else []
    command = ["strace", "-y", "-s", "0", "-o", str(strace.log), "-e", f"trace={strace.trace}", *inject, "-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    status = Path(f"/proc/{pid}/status")
    while re.search(r"^TracerPid:\t0$", status.read_text(), re.M):
        if tracer.poll() is not None or time.monotonic() > deadline:
            assert tracer.stderr is not None
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise RuntimeError(f"strace cannot watch a process here: {tracer.stderr.read().decode().strip()}")
        time.sleep(0.001)
    return tracer


def _wait(pid: int, began: float, limits: Limits) -> tuple[int, int, bool]:
    """Return (wait status, peak memory in bytes, whether it took too long); kill the child at its limit."""
    kill_at = None if limits.kill_after is None else began + limits.kill_after
    timed_out = False
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage.ru_maxrss << 10, timed_out
        now = time.monotonic()
        if kill_at is not None and now >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = None
        if not timed_out and now - began > limits.seconds:
            os.killpg(pid, signal.SIGKILL)
            timed_out = True
        time.sleep(0.0005 if now - began < 0.1 else 0.003)


def _end_group(group: int) -> None:
    """Wait until the processes that a child left behind have ended by themselves; kill them after ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def has_strace() -> str:
    """Empty if strace can disturb a child here, else why not."""
    if sys.platform != "linux":
        return "this system is not Linux"
    if shutil.which("strace") is None:
        return "strace is not installed (Debian, Ubuntu: apt-get install strace)"
    return ""
