"""Compare the time of a training step with the bounds of the machine: its FLOP and bytes against measured peaks.

python benchmarks/roofline.py [--workloads mnist,celeba,celeba-beta,mlp] [--device auto] [--seconds 2] [--json OUT]

FLOP are counted from the layer sizes, two per multiply-add. Each layer counts for the forward pass, the gradient of the
weights and the gradient of its input (not of the images). torch's FlopCounterMode agrees (--check, and a test).

Bytes count one read and one write of the weights, their gradients, Adam's two moments, the images, and every layer's
output and its gradient. Activations have 2 bytes in bf16, all other numbers 4. A program that keeps these arrays in
memory cannot move fewer bytes.

The bound is max(FLOP / peak of a matrix product, bytes / bandwidth of a copy).
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timing import SHAPES, load_recipe, random_pixels, time_steps
from torch.utils.flop_counter import FlopCounterMode

from vaelab.build import build
from vaelab.data.tensors import Batch
from vaelab.models.networks.conv import feature_sizes
from vaelab.recipe import Recipe
from vaelab.system.device import describe_machine, deterministic, resolve_device
from vaelab.system.machine import default_threads
from vaelab.system.noise import StepNoise
from vaelab.training.objectives import Context, compute_terms

MATRIX_SIDE = 2048
"""Side of the square matrices whose product is timed."""
COPIED_BYTES = 1 << 28
"""Size of the tensor whose copy is timed."""
REPEATS = 8
ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2}
"""Bytes of one activation."""


@dataclass(frozen=True)
class Layer:
    """Sizes of one linear layer, per image."""

    inputs: int
    outputs: int
    multiply_adds: int
    weights: int
    """Number of parameters, biases included."""


# -- counting ---------------------------------------------------------------------------------------------------------


def dense(before: int, after: int) -> Layer:
    """A fully connected layer."""
    return Layer(before, after, before * after, (before + 1) * after)


def convolution(channels: tuple[int, int], kernel: int, before: int, after: int, *, transposed: bool = False) -> Layer:
    """A convolution from ``before`` to ``after`` pixels; transposed ones are counted on the input side."""
    multiply_adds = channels[0] * channels[1] * kernel**2 * (before if transposed else after)
    weights = channels[0] * channels[1] * kernel**2 + channels[1]
    return Layer(channels[0] * before, channels[1] * after, multiply_adds, weights)


def conv_layers(table: dict[str, Any], shape: tuple[int, int, int]) -> list[Layer]:
    """Layers of the network ``conv`` in order."""
    channels, strides, kernel, hidden = (table[key] for key in ("channels", "strides", "kernel", "hidden"))
    sizes = zip(*(feature_sizes(side, strides, kernel) for side in shape[1:]), strict=True)
    pixels = [height * width for height, width in sizes]
    widths = [shape[0], *channels]
    down = [convolution((widths[i], widths[i + 1]), kernel, pixels[i], pixels[i + 1]) for i in range(len(strides))]
    up = [
        convolution((widths[i + 1], widths[i]), kernel, pixels[i + 1], pixels[i], transposed=True)
        for i in reversed(range(len(strides)))
    ]
    depths = [channels[-1] * pixels[-1], *hidden]
    latents = table["latent_dim"]
    encoder = [dense(*pair) for pair in itertools.pairwise(depths)]
    decoder = [dense(*pair) for pair in itertools.pairwise([latents, *depths[::-1]])]
    return [*down, *encoder, dense(depths[-1], 2 * latents), *decoder, *up]


def mlp_layers(table: dict[str, Any], shape: tuple[int, int, int]) -> list[Layer]:
    """Layers of the network ``mlp`` in order."""
    widths = [math.prod(shape), *table["hidden"]]
    latents = table["latent_dim"]
    encoder = [dense(*pair) for pair in itertools.pairwise(widths)]
    decoder = [dense(*pair) for pair in itertools.pairwise([latents, *widths[::-1]])]
    return [*encoder, dense(widths[-1], 2 * latents), *decoder]


def count_step(recipe: Recipe, shape: tuple[int, int, int], precision: str) -> dict[str, float]:
    """FLOP and bytes of one training step."""
    table = recipe.resolve(shape, 1000).network
    layers = {"conv": conv_layers, "mlp": mlp_layers}[table["name"]](table, shape)
    batch = recipe.training.batch_size
    multiply_adds = 3 * sum(layer.multiply_adds for layer in layers)
    multiply_adds -= layers[0].multiply_adds  # no gradient with respect to the images
    weights = sum(layer.weights for layer in layers)
    activations = batch * sum(layer.outputs for layer in layers)
    images = batch * math.prod(shape)
    return {
        "parameters": weights,
        "flop": 2 * batch * multiply_adds,
        "bytes": 2 * (4 * 4 * weights + 2 * ELEMENT_BYTES[precision] * activations + 4 * images),
    }


def count_flop_by_torch(recipe: Recipe, shape: tuple[int, int, int]) -> int:
    """FLOP of the same step, forward and backward, counted by torch's FlopCounterMode."""
    vae, objective = build(recipe.resolve(shape, 1000))
    cpu = torch.device("cpu")
    context = Context(torch.tensor(0), StepNoise(0, cpu), vae)
    count = recipe.training.batch_size
    batch = Batch(torch.rand(count, *shape), torch.arange(count))
    with FlopCounterMode(display=False) as counter:
        compute_terms(objective, vae, batch, context)[1]["loss"].backward()
    return int(counter.get_total_flops())


# -- the machine ------------------------------------------------------------------------------------------------------


def best_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Shortest of several timings; on CUDA between two events."""
    work()
    times = []
    for _ in range(REPEATS):
        if device.type == "cuda":
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            began.record()
            work()
            ended.record()
            torch.cuda.synchronize(device)
            times.append(began.elapsed_time(ended) / 1000)
        else:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return min(times)


def measure_peaks(device: torch.device) -> dict[str, float]:
    """FLOP/s of a matrix product in each precision, and bytes/s of a copy (reads plus writes)."""
    peaks = {}
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with deterministic(device, precision, default_threads()):
            seconds = best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        peaks[precision] = 2 * MATRIX_SIDE**3 / seconds
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    with deterministic(device, "fp32", default_threads()):
        peaks["copy"] = 2 * COPIED_BYTES / best_seconds(lambda: target.copy_(source), device)
    return peaks


def find_bound(counted: dict[str, float], peaks: dict[str, float], precision: str) -> dict[str, Any]:
    """Lower bound of a step in milliseconds, and which of FLOP and bytes sets it."""
    compute, memory = counted["flop"] / peaks[precision], counted["bytes"] / peaks["copy"]
    return {"ms_bound": 1000 * max(compute, memory), "bound_by": "FLOP" if compute >= memory else "bytes"}


def measure(workloads: list[str], device_name: str, seconds: float) -> dict[str, Any]:
    """Peaks, and for each workload the counts, the bound and the time of a step in vaelab's loop."""
    device = resolve_device(device_name)
    peaks, rows = measure_peaks(device), {}
    for name in workloads:
        recipe, shape = load_recipe(name), SHAPES[name]
        timed = time_steps(recipe, random_pixels(1024, shape), seconds, device=device_name)
        counted = count_step(recipe, shape, timed["precision"])
        bound = find_bound(counted, peaks, timed["precision"])
        reached = bound["ms_bound"] / timed["ms_per_step"]
        rows[name] = {**counted, **bound, "reached": reached, **timed}
    return {"peaks": peaks, "workloads": rows}


def format_results(result: dict[str, Any]) -> str:
    """The results as text."""
    peaks = result["peaks"]
    rates = [f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items() if name != "copy"]
    lines = [f"peaks: matrix product {MATRIX_SIDE}³ {', '.join(rates)}; copy {peaks['copy'] / 1e9:.1f} GB/s", ""]
    lines.append("| step of     | precision | GFLOP |    MB | bound, ms |    by | measured, ms | reached |")
    lines.append("|-------------|-----------|------:|------:|----------:|------:|-------------:|--------:|")
    for name, row in result["workloads"].items():
        lines.append(
            f"| {name:11} | {row['precision']:9} | {row['flop'] / 1e9:5.2f} | {row['bytes'] / 1e6:5.1f} "
            f"| {row['ms_bound']:9.3g} | {row['bound_by']:>5} | {row['ms_per_step']:12.3g} | {row['reached']:7.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with ``--check``, only compare the two counts of FLOP."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", default=",".join(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each timing")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--line", action="store_true", help="print one line of JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="only compare the count of FLOP with torch's")
    options = parser.parse_args()
    workloads = options.workloads.split(",")
    if options.check:
        for name in workloads:
            recipe, shape = load_recipe(name), SHAPES[name]
            ours, theirs = count_step(recipe, shape, "fp32")["flop"], count_flop_by_torch(recipe, shape)
            print(f"{name:12} {ours:15,.0f} from the layers, {theirs:15,.0f} by FlopCounterMode")
        return
    result = measure(workloads, options.device, options.seconds)
    result["machine"] = describe_machine(resolve_device(options.device))
    print(json.dumps(result) if options.line else format_results(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
