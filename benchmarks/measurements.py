"""Single measurements of vaelab and its rivals, each in a fresh process; speed.py repeats and compares them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timing import MLP, UNLIMITED_STEPS

HERE = Path(__file__).parent
WARMUP_SECONDS = 2.0
"""Seconds after the first step that are not timed."""
POLL_SECONDS = 0.1
TIMEOUT_SECONDS = 1800.0
Result = dict[str, Any]


class MeasurementFailed(RuntimeError):
    """A measurement without a number; the message ends with the last lines that the process printed."""


@dataclass(frozen=True)
class Settings:
    """Options shared by all measurements of a run of speed.py."""

    mnist: Path
    faces: Path | None
    pythae: Path | None
    """Python interpreter that has Pythae."""
    seconds: float
    device: str
    scratch: Path
    """Temporary folder for runs and for vaelab's cache."""

    @property
    def rivals(self) -> list[str]:
        """Names of the programs that are compared, vaelab among them."""
        return ["vaelab", "plain", *(["pythae"] if self.pythae else [])]

    def data_dir(self, workload: str) -> Path:
        """Folder with the images of a workload."""
        if not workload.startswith("celeba"):
            return self.mnist
        assert self.faces is not None, "speed.py leaves these workloads out"
        return self.faces


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def start_process(command: list[str], scratch: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Start a process with a cache in ``scratch``; yield it and its log. It is ended with the context."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache"), "PYTHONWARNINGS": "ignore"}
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".log") as log:
        environment["BENCHMARK_STARTED"] = repr(time.time())
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            yield process, Path(log.name)
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            if process.poll() is None:
                process.kill()
            process.wait()


def check_exit(process: subprocess.Popen, log: Path, expected: tuple[int, ...] = (0,)) -> None:
    """Raise MeasurementFailed if a process ended with another exit code."""
    if process.returncode not in expected:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise MeasurementFailed(f"{' '.join(map(str, process.args[:5]))} …: exit code {process.returncode}\n{tail}")


def run_json(command: list[str], scratch: Path, sample: Callable[[int], None] | None = None) -> Result:
    """Run a command and parse the last JSON line that it prints.

    ``sample`` is called with its process ID about every ``POLL_SECONDS``.
    """
    with start_process(command, scratch) as (process, log):
        while sample is not None and process.poll() is None:
            sample(process.pid)
            time.sleep(POLL_SECONDS)
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"{' '.join(command[:5])} …: not done within {TIMEOUT_SECONDS:.0f} s") from None
        check_exit(process, log)
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
        return json.loads(lines[-1])


# -- memory -----------------------------------------------------------------------------------------------------------


class PeakMemory:
    """Largest proportional set size (PSS) of a process and its descendants, from /proc, in MiB."""

    FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")

    def __init__(self) -> None:
        self.peak = dict.fromkeys(self.FIELDS, 0.0)

    def sample(self, pid: int) -> None:
        """Take one sample. ``peak`` is the sample with the largest PSS."""
        sample = dict.fromkeys(self.FIELDS, 0.0)
        for member in process_tree(pid):
            with suppress(OSError):
                for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name in sample:
                        sample[name] += int(value.split()[0]) / 1024
        if sample["Pss"] > self.peak["Pss"]:
            self.peak = sample


def process_tree(pid: int) -> list[int]:
    """IDs of a process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


# -- vaelab on its command line ---------------------------------------------------------------------------------------


def vaelab_command(workload: str, run: Path, settings: Settings, steps: int) -> list[str]:
    """Command line of ``vaelab train`` for a workload."""
    recipe, overrides = ("mnist", MLP) if workload == "mlp" else (workload, {})
    values = {**overrides, "training.steps": steps, "training.validate_every": 0}
    options = [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    data_dir = str(settings.data_dir(workload))
    command = [sys.executable, "-m", "vaelab", "train", recipe, "--run", str(run), "--data", data_dir]
    return [*command, "--device", settings.device, *options]


def read_timing(run: Path) -> list[tuple[float, float]]:
    """(Step, seconds) of every complete line of timing.csv."""
    path = run / "timing.csv"
    lines = path.read_text().splitlines(keepends=True)[1:] if path.exists() else []
    rows = [line.split(",") for line in lines if line.endswith("\n")]
    return [(float(step), float(seconds)) for step, seconds, *_ in rows]


def steady_part(rows: list[tuple[float, float]], warmup: float) -> Result | None:
    """Steps and seconds from the first record after the warm-up to the last; None if there are fewer than two."""
    late = [row for row in rows if row[1] - rows[0][1] >= warmup]
    if len(late) < 2:
        return None
    steps, seconds = (last - first for first, last in zip(late[0], late[-1], strict=True))
    return {"steps": int(steps), "seconds": seconds, "ms_per_step": 1000 * seconds / steps}


def train_vaelab(workload: str, settings: Settings, memory: PeakMemory | None = None) -> Result:
    """Run ``vaelab train`` until its steady part is long enough, interrupt it and read its timing.csv."""
    with tempfile.TemporaryDirectory(dir=settings.scratch) as folder:
        run = Path(folder) / workload
        deadline = time.monotonic() + TIMEOUT_SECONDS
        command = vaelab_command(workload, run, settings, UNLIMITED_STEPS)
        with start_process(command, settings.scratch) as (process, log):
            found = None
            while process.poll() is None and (found is None or found["seconds"] < settings.seconds):
                if time.monotonic() > deadline:
                    raise MeasurementFailed(f"vaelab train {workload}: no steady part within {TIMEOUT_SECONDS:.0f} s")
                if memory is not None:
                    memory.sample(process.pid)
                time.sleep(POLL_SECONDS)
                found = steady_part(read_timing(run), WARMUP_SECONDS)
            process.send_signal(signal.SIGINT)  # vaelab saves a checkpoint and exits with 130
            try:
                process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                raise MeasurementFailed(f"vaelab train {workload}: does not stop when interrupted") from None
            check_exit(process, log, (130,))
        assert found is not None
        machine = json.loads((run / "machine.json").read_text())
    return {**found, **{key: machine[key] for key in ("precision", "threads", "torch", "device")}}


def time_first_step(settings: Settings) -> Result:
    """Seconds from the start of the process until history.csv holds the first step of a run."""
    with tempfile.TemporaryDirectory(dir=settings.scratch) as folder:
        run = Path(folder) / "mnist"
        start = time.time()
        with start_process(vaelab_command("mnist", run, settings, 1), settings.scratch) as (process, log):
            while not (run / "timing.csv").exists() and process.poll() is None:
                time.sleep(0.005)
            if process.poll() is not None:
                check_exit(process, log)
            return {"first_step_at": (run / "history.csv").stat().st_mtime - start}


def make_run(settings: Settings) -> Path:
    """Train the mnist recipe for a few steps, once; its model encodes and decodes."""
    run = settings.scratch / "runs" / "mnist"
    if not (run / "model.safetensors").exists():
        with start_process(vaelab_command("mnist", run, settings, 8), settings.scratch) as (process, log):
            while not (run / "model.safetensors").exists() and process.poll() is None:
                time.sleep(POLL_SECONDS)  # the evaluation that follows is not needed
            if process.poll() is not None:
                check_exit(process, log)
    return run


# -- the measurements: (rival, workload, settings) → cost and the numbers behind it -----------------------------------


def rival_command(rival: str, workload: str, settings: Settings, *more: str) -> list[str]:
    """Command line of a rival."""
    scripts = {"plain": (sys.executable, "plain.py"), "pythae": (settings.pythae, "with_pythae.py")}
    python, script = scripts[rival]
    data_dir = str(settings.data_dir(workload))
    return [
        str(python),
        str(HERE / "rivals" / script),
        workload,
        "--data",
        data_dir,
        "--device",
        settings.device,
        *more,
    ]


def measure_training(rival: str, workload: str, settings: Settings) -> Result:
    """Milliseconds per step in the steady part of training."""
    if rival == "vaelab":
        found = train_vaelab(workload, settings)
    else:
        budget = ("--seconds", str(settings.seconds), "--warmup", str(WARMUP_SECONDS))
        found = run_json(rival_command(rival, workload, settings, *budget), settings.scratch)
    return {"cost": found["ms_per_step"], **found}


def measure_bulk(rival: str, workload: str, settings: Settings) -> Result:
    """Seconds to encode MNIST's 60,000 training images or to decode 10,000 samples with the mnist model."""
    if rival == "vaelab":
        where = [str(make_run(settings)), "--data", str(settings.mnist), "--device", settings.device]
        command = [sys.executable, str(HERE / "rivals" / "with_vaelab.py"), workload, *where]
    else:
        command = rival_command(rival, "mnist", settings, "--task", workload)
    found = run_json(command, settings.scratch)
    return {"cost": found["seconds"], **found}


def measure_first_step(rival: str, _workload: str, settings: Settings) -> Result:
    """Seconds from the start of the process to the end of its first step on mnist."""
    if rival == "vaelab":
        found = time_first_step(settings)
    else:
        found = run_json(rival_command(rival, "mnist", settings, "--steps", "1"), settings.scratch)
    return {"cost": found["first_step_at"], **found}


def measure_memory(rival: str, _workload: str, settings: Settings) -> Result:
    """Peak MiB of training on mnist, with the worker processes of its loader."""
    memory = PeakMemory()
    if rival == "vaelab":
        train_vaelab("mnist", settings, memory)
    else:
        budget = ("--seconds", str(settings.seconds), "--warmup", str(WARMUP_SECONDS))
        run_json(rival_command(rival, "mnist", settings, *budget), settings.scratch, memory.sample)
    return {"cost": memory.peak["Pss"], **memory.peak}


def measure_command(_rival: str, option: str, settings: Settings) -> Result:
    """Seconds that ``vaelab --help`` or ``vaelab --version`` takes."""
    start = time.perf_counter()
    with start_process([sys.executable, "-m", "vaelab", f"--{option}"], settings.scratch) as (process, log):
        process.wait(TIMEOUT_SECONDS)
        seconds = time.perf_counter() - start
        check_exit(process, log)
    return {"cost": seconds}


def measure_caching(settings: Settings) -> Result:
    """Seconds in which vaelab decodes CelebA's JPEGs into its cache, before the first training on them."""
    command = [sys.executable, str(HERE / "rivals" / "with_vaelab.py"), "cache", str(settings.data_dir("celeba"))]
    return run_json(command, settings.scratch)
