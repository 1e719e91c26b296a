"""How near a training step comes to what the machine can do: its FLOP and bytes against peaks measured beside it.

python benchmarks/roofline.py [--work mnist,celeba,celeba-beta,mlp] [--device auto] [--seconds 2] [--json OUT]

FLOP are counted from the layers' sizes, two for each multiplication with its addition: once forward, once for the
gradient of the weights, once for that of the input (not of the images). --check holds that against torch's
FlopCounterMode; so does a test. Bytes: weights, their gradients and Adam's two moments, the output of every layer, its
gradient and the images are each written once and read once; what lies between layers counts 2 bytes a number in bf16
and 4 otherwise, all else 4. No program that keeps these in memory moves less, so the time bound is
max(FLOP / peak of a matrix product, bytes / bandwidth of a copy).
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
from stepping import SHAPES, made_up, recipe_of, time_steps
from torch.utils.flop_counter import FlopCounterMode

from vaelab.build import build
from vaelab.data.images import Batch
from vaelab.models.networks.conv import feature_sizes
from vaelab.recipe import Recipe
from vaelab.system.device import default_threads, describe_machine, deterministic, resolve_device
from vaelab.system.seeds import StepNoise
from vaelab.training.objectives import Context, compute_terms

SIDE = 2048
"""Of the square matrices whose product shows the peak."""
COPIED = 1 << 28
"""Bytes of the tensor whose copy shows the bandwidth."""
TRIES = 8
SIZES = {"fp32": 4, "tf32": 4, "bf16": 2}
"""Bytes of a number between layers."""


@dataclass(frozen=True)
class Layer:
    """One linear map of a network, per image."""

    inputs: int
    outputs: int
    """Numbers that come out of it."""
    products: int
    """Multiplications, each with its addition."""
    weights: int
    """With the bias."""


# -- counting ---------------------------------------------------------------------------------------------------------


def dense(before: int, after: int) -> Layer:
    """A fully connected layer."""
    return Layer(before, after, before * after, (before + 1) * after)


def convolution(channels: tuple[int, int], kernel: int, before: int, after: int, *, mirrored: bool = False) -> Layer:
    """A convolution from ``before`` pixels to ``after``; each weight meets every pixel on its smaller side."""
    products = channels[0] * channels[1] * kernel**2 * (before if mirrored else after)
    weights = channels[0] * channels[1] * kernel**2 + channels[1]
    return Layer(channels[0] * before, channels[1] * after, products, weights)


def conv_layers(table: dict[str, Any], shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of network `conv` in their order."""
    channels, strides, kernel, hidden = (table[key] for key in ("channels", "strides", "kernel", "hidden"))
    sizes = zip(*(feature_sizes(side, strides, kernel) for side in shape[1:]), strict=True)
    pixels = [height * width for height, width in sizes]
    widths = [shape[0], *channels]
    down = [convolution((widths[i], widths[i + 1]), kernel, pixels[i], pixels[i + 1]) for i in range(len(strides))]
    up = [
        convolution((widths[i + 1], widths[i]), kernel, pixels[i + 1], pixels[i], mirrored=True)
        for i in reversed(range(len(strides)))
    ]
    depths = [channels[-1] * pixels[-1], *hidden]
    latents = table["latent_dim"]
    inwards = [dense(*pair) for pair in itertools.pairwise(depths)]
    outwards = [dense(*pair) for pair in itertools.pairwise([latents, *depths[::-1]])]
    return [*down, *inwards, dense(depths[-1], 2 * latents), *outwards, *up]


def mlp_layers(table: dict[str, Any], shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of network `mlp` in their order."""
    widths = [math.prod(shape), *table["hidden"]]
    latents = table["latent_dim"]
    inwards = [dense(*pair) for pair in itertools.pairwise(widths)]
    outwards = [dense(*pair) for pair in itertools.pairwise([latents, *widths[::-1]])]
    return [*inwards, dense(widths[-1], 2 * latents), *outwards]


def count(recipe: Recipe, shape: tuple[int, int, int], precision: str) -> dict[str, float]:
    """FLOP and bytes of one training step."""
    table = recipe.resolve(shape, 1000).network
    layers = {"conv": conv_layers, "mlp": mlp_layers}[table["name"]](table, shape)
    batch = recipe.training.batch_size
    products = 3 * sum(layer.products for layer in layers) - layers[0].products  # nobody wants the images' gradient
    weights = sum(layer.weights for layer in layers)
    activations = batch * sum(layer.outputs for layer in layers)
    images = batch * math.prod(shape)
    return {
        "parameters": weights,
        "flop": 2 * batch * products,
        "bytes": 2 * (4 * 4 * weights + 2 * SIZES[precision] * activations + 4 * images),
    }


def count_by_torch(recipe: Recipe, shape: tuple[int, int, int]) -> int:
    """FLOP of the same step, forward and backward, as torch's FlopCounterMode sees them."""
    vae, objective = build(recipe, shape, 1000)
    cpu = torch.device("cpu")
    context = Context(torch.tensor(0), StepNoise(0, cpu), vae)
    count = recipe.training.batch_size
    batch = Batch(torch.rand(count, *shape), torch.arange(count))
    with FlopCounterMode(display=False) as counter:
        compute_terms(objective, vae, batch, context)[1]["loss"].backward()
    return int(counter.get_total_flops())


# -- the machine ------------------------------------------------------------------------------------------------------


def best_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The shortest of several tries, on CUDA between two events."""
    work()
    times = []
    for _ in range(TRIES):
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
    """FLOP/s of a matrix product in each precision, and bytes/s of a copy (each byte read and written)."""
    peaks = {}
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with deterministic(device, precision, default_threads()):
            peaks[precision] = 2 * SIDE**3 / best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    with deterministic(device, "fp32", default_threads()):
        peaks["copy"] = 2 * COPIED / best_seconds(lambda: target.copy_(source), device)
    return peaks


def bound(counted: dict[str, float], peaks: dict[str, float], precision: str) -> dict[str, Any]:
    """The least milliseconds that a step can take, and what sets them."""
    compute, memory = counted["flop"] / peaks[precision], counted["bytes"] / peaks["copy"]
    return {"ms_bound": 1000 * max(compute, memory), "bound_by": "FLOP" if compute >= memory else "bytes"}


def measure(works: list[str], device_name: str, seconds: float) -> dict[str, Any]:
    """Peaks, and for each work what a step counts, what it takes in vaelab's loop, how much of the bound that is."""
    device = resolve_device(device_name)
    peaks, rows = measure_peaks(device), {}
    for work in works:
        recipe, shape = recipe_of(work), SHAPES[work]
        timed = time_steps(recipe, made_up(1024, shape), seconds, device=device_name)
        counted = count(recipe, shape, timed["precision"])
        limit = bound(counted, peaks, timed["precision"])
        reached = limit["ms_bound"] / timed["ms_per_step"]
        rows[work] = {**counted, **limit, "reached": reached, **timed}
    return {"peaks": peaks, "works": rows}


def table(result: dict[str, Any]) -> str:
    """What was measured, for people."""
    peaks = result["peaks"]
    said = [f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items() if name != "copy"]
    lines = [f"peaks: matrix product {SIDE}³ {', '.join(said)}; copy {peaks['copy'] / 1e9:.1f} GB/s", ""]
    lines.append("| step of     | precision | GFLOP |    MB | bound, ms |    by | measured, ms | reached |")
    lines.append("|-------------|-----------|------:|------:|----------:|------:|-------------:|--------:|")
    for work, row in result["works"].items():
        lines.append(
            f"| {work:11} | {row['precision']:9} | {row['flop'] / 1e9:5.2f} | {row['bytes'] / 1e6:5.1f} "
            f"| {row['ms_bound']:9.3g} | {row['bound_by']:>5} | {row['ms_per_step']:12.3g} | {row['reached']:7.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with --check only compare the two ways of counting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", default=",".join(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each step's timing")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    parser.add_argument("--line", action="store_true", help="print them as one line of JSON instead")
    parser.add_argument("--check", action="store_true", help="count by torch as well, and measure nothing")
    options = parser.parse_args()
    works = options.work.split(",")
    if options.check:
        for work in works:
            ours, torchs = (
                count(recipe_of(work), SHAPES[work], "fp32")["flop"],
                count_by_torch(recipe_of(work), SHAPES[work]),
            )
            print(f"{work:12} {ours:15,.0f} from the layers, {torchs:15,.0f} by FlopCounterMode")
        return
    result = measure(works, options.device, options.seconds)
    result["machine"] = describe_machine(resolve_device(options.device))
    print(json.dumps(result) if options.line else table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
