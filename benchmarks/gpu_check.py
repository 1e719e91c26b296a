"""Verify what a first run on a GPU must show, and print a row for each check; exit code 1 if one fails.

python benchmarks/gpu_check.py [--device cuda] [--only resume,commands] [--json OUT]

The checks compare a GPU with itself and with the CPU. They time nothing: benchmarks/speed.py does, and
``make gpu-check`` runs both. With --device cpu the checks that need CUDA are skipped.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import random_pixels

from vaelab import recipe as recipes
from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.recipe import ResolvedRecipe
from vaelab.system import registry
from vaelab.system.device import describe_machine, deterministic, resolve_device
from vaelab.system.errors import InputError
from vaelab.system.machine import now
from vaelab.system.noise import StepNoise
from vaelab.training.settings import make_settings
from vaelab.training.state import create_state
from vaelab.training.step import CapturedSteps, EagerSteps, Steps, measure_memory

SHAPE, NUM_IMAGES, BATCH_SIZE = (1, 12, 12), 60, 13
NUM_STEPS = 6
"""Steps of each comparison: more than an epoch, whose last batch is smaller."""
TIMEOUT_SECONDS = 600
PRECISION_LIMIT = 0.02
"""Largest relative difference of the closing loss from float32's. Other seeds differ as much on digits."""
AGREEMENT_LIMIT = 1e-3
"""Largest difference of a posterior mean between CPU and GPU, in units of the largest mean."""
SUFFIXES = {"sample": ".png", "reconstruct": ".png", "encode": ".npz"}
"""Command with an output → suffix of its path."""
FP32 = ("--set", "training.precision=fp32")
ON_DEVICE = {"evaluate", "sample", "reconstruct", "encode"}
"""Commands that take a device; the others use the CPU."""
VERBS = {
    "evaluate": (),
    "doctor": (),
    "sample": (),
    "sample --sampler gmm": ("--sampler", "gmm"),
    "reconstruct": (),
    "encode": (),
    "report": (),
    "export": ("--to", "torch"),
    "export --to onnx": ("--to", "onnx"),
}
"""Label → further arguments of a command on a run."""


class CheckFailed(Exception):
    """A check found a difference that must not be."""


class Skipped(Exception):
    """A check does not apply to this machine."""


@dataclass(frozen=True)
class Result:
    """The outcome of a check."""

    name: str
    outcome: str
    """"passed", "failed" or "skipped"."""
    detail: str
    seconds: float


def make_recipe(**overrides: Any) -> ResolvedRecipe:
    """Return the recipe of a small model; a double underscore in a name stands for the dot of a key."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    fixed = {"training.steps": NUM_STEPS, "training.batch_size": BATCH_SIZE, "network.latent_dim": 4}
    return recipes.load("digits", {**fixed, **dotted}).resolve(SHAPE, NUM_IMAGES)


def take_steps(kind: type[Steps], made: ResolvedRecipe, device: torch.device, resident: bool) -> tuple[Steps, Any]:
    """Train a small model; return its steps and the terms of each, on the CPU."""
    images = Images(random_pixels(NUM_IMAGES, SHAPE))
    settings = make_settings(made, precision="fp32", threads=1, shuffle_buffer=0)
    with deterministic(device, "fp32", 1):
        state = create_state(*build(made), settings, device)
        batches = Batches(images, BATCH_SIZE, 0, device)
        if resident:
            batches.resident = torch.as_tensor(np.asarray(images.pixels[:])).to(device)
        steps = kind(state, batches, settings, StepNoise(0, device))
        rows = []
        for step in range(NUM_STEPS):
            rows.append(steps.take(step))
            state.step += 1
        return steps, torch.stack(rows).cpu()


def find_members() -> Iterator[tuple[str, ResolvedRecipe]]:
    """Yield a label and a recipe for every objective, posterior with each prior, likelihood and network."""
    folders = {"objective": "objectives", "likelihood": "likelihoods", "network": "networks"}
    for section, folder in folders.items():
        for name in registry.names(folder):
            yield f"{section} {name}", make_recipe(**{f"{section}__name": name})
    for posterior, prior in itertools.product(registry.names("posteriors"), registry.names("priors")):
        try:
            made = make_recipe(posterior__name=posterior, prior__name=prior)
            build(made)
        except InputError:
            continue  # the posterior does not provide what the prior needs
        yield f"{posterior} with {prior}", made


# -- checks: (device, scratch folder) → what was found ----------------------------------------------------------------


def check_captured_steps(device: torch.device, _scratch: Path) -> str:
    """A captured step of every member is bit-identical to the eager step, and none falls back."""
    wrong, count = [], 0
    from_host = [("batches from the host", make_recipe(), False)]
    for label, made, resident in [*((*member, True) for member in find_members()), *from_host]:
        count += 1
        (eager, expected), (captured, found) = (
            take_steps(kind, made, device, resident) for kind in (EagerSteps, CapturedSteps)
        )
        weights = eager.state.tensors()
        same = all(torch.equal(tensor, weights[name]) for name, tensor in captured.state.tensors().items())
        if captured.notes or not same or not torch.equal(expected, found):
            wrong.append(f"{label}: {'; '.join(captured.notes) or 'other numbers'}")
    if wrong:
        raise CheckFailed("; ".join(wrong))
    return f"{count} models, {NUM_STEPS} steps each, equal to the last bit"


def check_no_synchronisation(device: torch.device, _scratch: Path) -> str:
    """No replayed step waits for the device."""
    if device.type != "cuda":
        raise Skipped("needs CUDA")
    steps, _ = take_steps(CapturedSteps, make_recipe(), device, resident=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(NUM_STEPS, 3 * NUM_STEPS):
            steps.take(step)
    except RuntimeError as error:
        raise CheckFailed(str(error).splitlines()[0]) from None
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{2 * NUM_STEPS} steps without one"


def check_memory(device: torch.device, _scratch: Path) -> str:
    """Training uses no more device memory than estimated."""
    if device.type != "cuda":
        raise Skipped("needs CUDA")
    made = make_recipe()
    settings = make_settings(made, precision="fp32", threads=1, shuffle_buffer=0)
    state = create_state(*build(made), settings, device)
    estimate = measure_memory(state, settings)
    del state
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    take_steps(CapturedSteps, made, device, resident=False)
    peak = torch.cuda.max_memory_reserved(device)
    if peak > estimate:
        raise CheckFailed(f"{peak:,} bytes taken, {estimate:,} estimated")
    return f"{peak:,} of {estimate:,} estimated bytes"


def check_resume(device: torch.device, scratch: Path) -> str:
    """An interrupted and resumed run is byte-identical to an uninterrupted one."""
    whole, broken = scratch / "whole", scratch / "broken"
    run_vaelab("train", "digits", "--run", whole, "--device", device, "--steps", 600)
    command = vaelab_command("train", "digits", "--run", broken, "--device", device, "--steps", 600)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (broken / "timing.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code = process.wait(TIMEOUT_SECONDS)
    at = len((broken / "history.csv").read_text().splitlines()) - 1
    run_vaelab("train", "digits", "--run", broken, "--device", device, "--steps", 600)
    for name in ("history.csv", "validation.csv", "model.safetensors"):
        if digest(whole / name) != digest(broken / name):
            raise CheckFailed(f"{name} differs after an interruption at step {at}")
    return f"interrupted at step {at} (exit code {code}), all files equal"


def check_precisions(device: torch.device, scratch: Path) -> str:
    """Every precision reaches the closing loss of float32."""
    losses = {}
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        run = scratch / precision
        run_vaelab("train", "digits", "--run", run, "--device", device, "--set", f"training.precision={precision}")
        losses[precision] = np.mean(read_losses(run)[-100:])
    worst = max(abs(loss / losses["fp32"] - 1) for loss in losses.values())
    text = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    if not worst <= PRECISION_LIMIT:
        raise CheckFailed(text)
    return text


def check_agreement_with_cpu(device: torch.device, scratch: Path) -> str:
    """The posterior means of a model are the same on the CPU and on the device."""
    run = trained_run(device, scratch)
    means = []
    for number, name in enumerate(("cpu", device)):
        out = scratch / f"codes{number}.npz"
        run_vaelab("encode", run, "--device", name, "--out", out)
        with np.load(out) as arrays:
            means.append(arrays["mean"])
    difference = float(np.abs(means[0] - means[1]).max() / np.abs(means[0]).max())
    if not difference <= AGREEMENT_LIMIT:
        raise CheckFailed(f"means differ by {difference:.2g} of the largest")
    return f"means differ by at most {difference:.2g} of the largest"


def check_commands(device: torch.device, scratch: Path) -> str:
    """The commands that use a model run on the device."""
    run = trained_run(device, scratch)
    for number, (label, more) in enumerate(VERBS.items()):
        verb = label.split()[0]
        out = ("--out", scratch / f"out{number}{SUFFIXES[verb]}") if verb in SUFFIXES else ()
        where = ("--device", device) if verb in ON_DEVICE else ()
        run_vaelab(verb, run, *where, *more, *out)
    return ", ".join(VERBS)


def check_ranks(device: torch.device, scratch: Path) -> str:
    """Two processes compute the losses of one."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        raise Skipped("needs two GPUs")
    losses = []
    for count in (1, 2):
        run = scratch / f"ranks{count}"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "--", "vaelab"]
        arguments = ("train", "digits", "--run", run, "--device", device.type, "--steps", 40, *FP32)
        run_command([sys.executable, *launcher, *map(str, arguments)])
        losses.append(read_losses(run))
    difference = float(np.abs(losses[0] / losses[1] - 1).max())
    if not difference <= AGREEMENT_LIMIT:
        raise CheckFailed(f"losses differ by {difference:.2g}")
    return f"losses of 40 steps differ by at most {difference:.2g}"


CHECKS: dict[str, Callable[[torch.device, Path], str]] = {
    "captured-steps": check_captured_steps,
    "no-synchronisation": check_no_synchronisation,
    "memory": check_memory,
    "resume": check_resume,
    "precisions": check_precisions,
    "agreement-with-cpu": check_agreement_with_cpu,
    "commands": check_commands,
    "ranks": check_ranks,
}


# -- running ----------------------------------------------------------------------------------------------------------


def vaelab_command(*arguments: object) -> list[str]:
    """Return a command line of this Python's vaelab."""
    return [sys.executable, "-m", "vaelab", *map(str, arguments)]


def run_vaelab(*arguments: object) -> None:
    """Run a command of vaelab. Raises CheckFailed with its last line."""
    run_command(vaelab_command(*arguments))


def run_command(command: list[str]) -> None:
    """Run a command. Raises CheckFailed with its last line."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=os.environ)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise CheckFailed(f"{' '.join(command[2:5])}: exit code {done.returncode}: {lines[-1]}")


def trained_run(device: torch.device, scratch: Path) -> Path:
    """Return a run on the digits, trained once."""
    run = scratch / "trained"
    if not (run / "model.safetensors").exists():
        run_vaelab("train", "digits", "--run", run, "--device", device, "--steps", 200)
    return run


def read_losses(run: Path) -> np.ndarray:
    """Return the loss of each batch."""
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def perform(name: str, device: torch.device, scratch: Path) -> Result:
    """Perform a check and print its row."""
    start = time.monotonic()
    try:
        outcome, detail = "passed", CHECKS[name](device, scratch)
    except Skipped as error:
        outcome, detail = "skipped", str(error)
    except Exception as error:  # an unexpected error is a finding, too, and the other checks go on
        outcome, detail = "failed", str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"
    result = Result(name, outcome, detail, round(time.monotonic() - start, 1))
    print(f"{result.outcome:8} {result.name:20} {result.seconds:6.1f} s  {result.detail}", flush=True)
    return result


def main() -> None:
    """Perform the checks, write JSON, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", help=f"some of {', '.join(CHECKS)}")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(CHECKS)
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"check {unknown[0]!r}: valid: {', '.join(CHECKS)}")
    try:
        device = resolve_device(options.device)
    except InputError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder:
        results = [perform(name, device, Path(folder)) for name in names]
    if options.json:
        found = {"date": now(), "machine": describe_machine(device), "checks": [asdict(result) for result in results]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(result.outcome == "failed" for result in results))


if __name__ == "__main__":
    main()
