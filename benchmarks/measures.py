"""Single measurements of vaelab and its rivals, each of one fresh process; speed.py repeats and compares them."""

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

HERE = Path(__file__).parent
ENDLESS = 1_000_000_000
"""Steps of a training that is stopped when its time is over."""
WARM = 2.0
"""Seconds after the first step that do not count as steady."""
POLL = 0.1
LONGEST = 1800.0
"""Seconds after which a measurement has failed."""
MLP = {
    "network.name": "mlp",
    "network.hidden": "[400]",
    "network.latent_dim": "20",
    "likelihood.name": "bernoulli",
    "training.batch_size": "128",
    "training.learning_rate": "0.001",
}
Result = dict[str, Any]


class Failed(RuntimeError):
    """A measurement brought no number; the message is the end of what the process said."""


@dataclass(frozen=True)
class Setting:
    """What is the same for every measurement of a run of speed.py."""

    data: Path
    faces: Path | None
    pythae: Path | None
    seconds: float
    device: str
    scratch: Path
    """A folder for runs and for vaelab's cache, removed afterwards."""

    @property
    def rivals(self) -> list[str]:
        """Who takes part."""
        return ["vaelab", "plain", *(["pythae"] if self.pythae else [])]

    def place(self, work: str) -> Path:
        """Where the images of a work lie."""
        if not work.startswith("celeba"):
            return self.data
        assert self.faces is not None, "speed.py has left these works out"
        return self.faces


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def started(command: list[str], scratch: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A process with a cache in ``scratch`` and the file of what it says; it does not outlive the block."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache"), "PYTHONWARNINGS": "ignore"}
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".log") as said:
        environment["BENCHMARK_STARTED"] = repr(time.time())
        process = subprocess.Popen(
            command, env=environment, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            yield process, Path(said.name)
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            if process.poll() is None:
                process.kill()
            process.wait()


def check(process: subprocess.Popen, said: Path, right: tuple[int, ...] = (0,)) -> None:
    """Failed if the process has ended in another way."""
    if process.returncode not in right:
        tail = "\n".join(said.read_text(errors="replace").splitlines()[-8:])
        raise Failed(f"{' '.join(map(str, process.args[:5]))} …: exit code {process.returncode}\n{tail}")


def run_for_json(command: list[str], scratch: Path, look: Callable[[int], None] | None = None) -> Result:
    """The line of JSON that a process prints at its end; meanwhile ``look`` is given its number again and again."""
    with started(command, scratch) as (process, said):
        while look is not None and process.poll() is None:
            look(process.pid)
            time.sleep(POLL)
        try:
            process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(command[:5])} …: not done within {LONGEST:.0f} s") from None
        check(process, said)
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.startswith("{")]
        return json.loads(lines[-1])


# -- memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """The largest proportional set size (PSS) of a process and its children, from /proc; in MiB."""

    FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")

    def __init__(self) -> None:
        self.peak = dict.fromkeys(self.FIELDS, 0.0)

    def look(self, pid: int) -> None:
        """One sample: the parts are those of the moment when the whole was largest."""
        sample = dict.fromkeys(self.FIELDS, 0.0)
        for member in family(pid):
            with suppress(OSError):
                for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name in sample:
                        sample[name] += int(value.split()[0]) / 1024
        if sample["Pss"] > self.peak["Pss"]:
            self.peak = sample


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


# -- vaelab on its command line ---------------------------------------------------------------------------------------


def vaelab_command(work: str, run: Path, setting: Setting, steps: int) -> list[str]:
    """What a person types."""
    recipe, overrides = ("mnist", MLP) if work == "mlp" else (work, {})
    values = {**overrides, "training.steps": str(steps), "training.validate_every": "0"}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "vaelab", "train", recipe, "--run", str(run), "--data", str(setting.place(work))]
    return [*command, "--device", setting.device, *settings]


def read_timing(run: Path) -> list[tuple[float, float]]:
    """(step, seconds) of every whole line of timing.csv."""
    path = run / "timing.csv"
    lines = path.read_text().splitlines(keepends=True)[1:] if path.exists() else []
    rows = [line.split(",") for line in lines if line.endswith("\n")]
    return [(float(step), float(seconds)) for step, seconds, *_ in rows]


def steady(rows: list[tuple[float, float]], warm: float) -> Result | None:
    """The steps and seconds between the first tick after the warm-up and the last; None while there are no two."""
    late = [row for row in rows if row[1] - rows[0][1] >= warm]
    if len(late) < 2:
        return None
    steps, seconds = (last - first for first, last in zip(late[0], late[-1], strict=True))
    return {"steps": int(steps), "seconds": seconds, "ms_per_step": 1000 * seconds / steps}


def train_vaelab(work: str, setting: Setting, memory: Memory | None = None) -> Result:
    """`vaelab train`, asked to stop when its steady part has lasted long enough; read from its timing.csv."""
    with tempfile.TemporaryDirectory(dir=setting.scratch) as folder:
        run = Path(folder) / work
        deadline = time.monotonic() + LONGEST
        with started(vaelab_command(work, run, setting, ENDLESS), setting.scratch) as (process, said):
            found = None
            while process.poll() is None and (found is None or found["seconds"] < setting.seconds):
                if time.monotonic() > deadline:
                    raise Failed(f"vaelab train {work}: no steady part within {LONGEST:.0f} s")
                if memory is not None:
                    memory.look(process.pid)
                time.sleep(POLL)
                found = steady(read_timing(run), WARM)
            process.send_signal(signal.SIGINT)  # it saves and says that the same command goes on
            try:
                process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                raise Failed(f"vaelab train {work}: does not stop when asked to") from None
            check(process, said, (130,))
        assert found is not None
        machine = json.loads((run / "machine.json").read_text())
    return {**found, **{key: machine[key] for key in ("precision", "threads", "torch", "device")}}


def first_step_of_vaelab(setting: Setting) -> Result:
    """Seconds from the start of the process until history.csv holds the first step of a run."""
    with tempfile.TemporaryDirectory(dir=setting.scratch) as folder:
        run = Path(folder) / "mnist"
        began = time.time()
        with started(vaelab_command("mnist", run, setting, 1), setting.scratch) as (process, said):
            while not (run / "timing.csv").exists() and process.poll() is None:
                time.sleep(0.005)
            if process.poll() is not None:
                check(process, said)
            return {"first_step_at": (run / "history.csv").stat().st_mtime - began}


def make_run(setting: Setting) -> Path:
    """A model of the mnist recipe after a few steps, to encode and decode with; made once."""
    run = setting.scratch / "runs" / "mnist"
    if not (run / "model.safetensors").exists():
        with started(vaelab_command("mnist", run, setting, 8), setting.scratch) as (process, said):
            while not (run / "model.safetensors").exists() and process.poll() is None:
                time.sleep(POLL)  # what it would do next is not needed here
            if process.poll() is not None:
                check(process, said)
    return run


# -- the measurements: (rival, work, setting) → cost and what it was found from ---------------------------------------


def rival_command(rival: str, work: str, setting: Setting, *more: str) -> list[str]:
    """The command line of a rival."""
    scripts = {"plain": (sys.executable, "plain.py"), "pythae": (setting.pythae, "with_pythae.py")}
    python, script = scripts[rival]
    place = str(setting.place(work))
    return [str(python), str(HERE / "rivals" / script), work, "--data", place, "--device", setting.device, *more]


def measure_training(rival: str, work: str, setting: Setting) -> Result:
    """Milliseconds of a step in the steady part of a training."""
    if rival == "vaelab":
        found = train_vaelab(work, setting)
    else:
        budget = ("--seconds", str(setting.seconds), "--warm", str(WARM))
        found = run_for_json(rival_command(rival, work, setting, *budget), setting.scratch)
    return {"cost": found["ms_per_step"], **found}


def measure_bulk(rival: str, work: str, setting: Setting) -> Result:
    """Seconds to encode MNIST's 60,000 training images, or to decode 10,000 samples, with the mnist model."""
    if rival == "vaelab":
        where = [str(make_run(setting)), "--data", str(setting.data), "--device", setting.device]
        command = [sys.executable, str(HERE / "rivals" / "with_vaelab.py"), work, *where]
    else:
        command = rival_command(rival, "mnist", setting, "--what", work)
    found = run_for_json(command, setting.scratch)
    return {"cost": found["seconds"], **found}


def measure_first_step(rival: str, _work: str, setting: Setting) -> Result:
    """Seconds from the start of the process to the end of its first step, on mnist."""
    if rival == "vaelab":
        found = first_step_of_vaelab(setting)
    else:
        found = run_for_json(rival_command(rival, "mnist", setting, "--steps", "1"), setting.scratch)
    return {"cost": found["first_step_at"], **found}


def measure_memory(rival: str, _work: str, setting: Setting) -> Result:
    """MiB at the peak of a training on mnist, the processes of a loader included; no time is taken in it."""
    memory = Memory()
    if rival == "vaelab":
        train_vaelab("mnist", setting, memory)
    else:
        budget = ("--seconds", str(setting.seconds), "--warm", str(WARM))
        run_for_json(rival_command(rival, "mnist", setting, *budget), setting.scratch, memory.look)
    return {"cost": memory.peak["Pss"], **memory.peak}


def measure_command(_rival: str, option: str, setting: Setting) -> Result:
    """Seconds of `vaelab --help` or `vaelab --version`."""
    began = time.perf_counter()
    with started([sys.executable, "-m", "vaelab", f"--{option}"], setting.scratch) as (process, said):
        process.wait(LONGEST)
        seconds = time.perf_counter() - began
        check(process, said)
    return {"cost": seconds}


def measure_caching(setting: Setting) -> Result:
    """Seconds that vaelab decodes CelebA's JPEGs once, before the first training on them; the cache keeps them."""
    command = [sys.executable, str(HERE / "rivals" / "with_vaelab.py"), "cache", str(setting.place("celeba"))]
    return run_for_json(command, setting.scratch)
