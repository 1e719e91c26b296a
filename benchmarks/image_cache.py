"""Measure the image cache: decoding once, and an epoch from the cache against decoding the JPEGs in every epoch.

python benchmarks/image_cache.py CELEBA [--images 8000] [--repeats 5] [--json OUT]

CELEBA is a folder that ``vaelab train celeba --data`` takes, such as benchmarks/make_faces.py writes. Each repetition
decodes the images into a fresh cache. Then it reads an epoch in batches of 32 from the cache and one from the JPEGs,
which one process per processor decodes, a batch per job.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from vaelab.data.arrays import PixelArray
from vaelab.data.containers import ImageRef, read_item
from vaelab.data.datasets import celeba
from vaelab.data.datasets._celeba_files import find_celeba
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.data.picture_cache import PictureFiles, cache_pictures
from vaelab.data.tensors import as_tensor, to_float
from vaelab.system.device import describe_machine
from vaelab.system.machine import default_threads

BATCH_SIZE = 32


def time_call(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a function takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def decode_into_cache(items: list[ImageRef], policy: ResizePolicy, cache: Path) -> PixelArray:
    """Pixels of the images, decoded into a new cache."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    return cache_pictures("celeba benchmark", {"benchmark": str(cache)}, lambda: PictureFiles(items, policy)).pixels


def read_cached_epoch(pixels: PixelArray) -> None:
    """Read every batch of one epoch as floats."""
    batches = Batches(Images(pixels), BATCH_SIZE, 0, torch.device("cpu"))
    for step in range(batches.steps_per_epoch):
        to_float(batches.batch(step).pixels)


def decode_batch(items: list[ImageRef], policy: ResizePolicy) -> np.ndarray:
    """Decode one batch from its files."""
    return np.stack([decode(read_item(item), policy) for item in items])


def read_jpeg_epoch(parallel: joblib.Parallel, items: list[ImageRef], policy: ResizePolicy) -> None:
    """Read every batch of one epoch as floats, decoded by worker processes that persist."""
    order = np.random.default_rng(0).permutation(len(items))
    parts = [[items[i] for i in order[start : start + BATCH_SIZE]] for start in range(0, len(items), BATCH_SIZE)]
    for pixels in parallel(joblib.delayed(decode_batch)(part, policy) for part in parts):
        to_float(as_tensor(pixels))


def measure(place: Path, count: int, repeats: int) -> dict[str, Any]:
    """Images per second of all repetitions, which interleave the three measurements."""
    files = find_celeba(place)
    if files is None:
        raise SystemExit(f"{place}: no CelebA here")
    items = files.read("train").items[:count]
    policy = celeba.resize_policy((3, 128, 128), crop="center128")
    rates: dict[str, list[float]] = {"decoding into the cache": [], "epoch from the cache": [], "epoch from JPEGs": []}
    workers = joblib.Parallel(n_jobs=default_threads(), backend="loky", return_as="generator", max_nbytes=None)
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            seconds, pixels = time_call(lambda cache=cache: decode_into_cache(items, policy, Path(cache)))
            rates["decoding into the cache"].append(len(items) / seconds)
            read_cached_epoch(pixels)  # fills the page cache
            read_jpeg_epoch(workers, items[:256], policy)  # starts the workers
            for name, epoch in (
                ("epoch from the cache", lambda pixels=pixels: read_cached_epoch(pixels)),
                ("epoch from JPEGs", lambda: read_jpeg_epoch(workers, items, policy)),
            ):
                seconds, _ = time_call(epoch)
                rates[name].append(len(items) / seconds)
    return {"images": len(items), "repeats": repeats, "images_per_second": rates}


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("celeba", type=Path)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    result = {
        **measure(options.celeba, options.images, options.repeats),
        "machine": describe_machine(torch.device("cpu")),
    }
    rates = result["images_per_second"]
    for name, values in rates.items():
        print(f"{name:24} {statistics.median(values):10,.0f} images/s  ({min(values):,.0f} to {max(values):,.0f})")
    ratios = [
        ours / theirs for ours, theirs in zip(rates["epoch from the cache"], rates["epoch from JPEGs"], strict=True)
    ]
    print(f"{'cache ÷ JPEGs':24} {statistics.median(ratios):10.1f} times  ({min(ratios):.1f} to {max(ratios):.1f})")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
