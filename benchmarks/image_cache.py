"""What a cache entry is worth: packing once, and an epoch from the cache beside decoding the JPEGs in every epoch.

python benchmarks/image_cache.py CELEBA [--images 8000] [--repeats 5]

CELEBA is a folder that `vaelab train celeba --data` takes, such as benchmarks/make_faces.py writes. Each repetition
fills a fresh cache and then reads an epoch in batches of 32 twice, from the cache and from the JPEGs (decoded
by as many processes as there are processors, a batch a job); the two alternate. Medians and ranges, as JSON on request.
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

from vaelab.data.containers import ImageRef, read_item
from vaelab.data.datasets import celeba
from vaelab.data.datasets._celeba_layouts import find_layout
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.images import Images, as_tensor, to_float
from vaelab.data.loader import Batches
from vaelab.data.picture_cache import CachedPictures, PictureFiles, cache_pictures
from vaelab.system.device import default_threads, describe_machine

BATCH = 32


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` takes, and what it returns."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def make_cached(items: list[ImageRef], resize_policy: ResizePolicy, cache: Path) -> CachedPictures:
    """Decode ``items`` into a cache of its own."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    return cache_pictures("celeba benchmark", {"benchmark": str(cache)}, lambda: PictureFiles(items, resize_policy))


def read_cached(cached: CachedPictures) -> None:
    """Every batch of one epoch as the model would get it."""
    batches = Batches(Images(cached.pixels), BATCH, 0, torch.device("cpu"))
    for step in range(batches.steps_per_epoch):
        to_float(batches.pixels(step))


def decode_batch(items: list[ImageRef], resize_policy: ResizePolicy) -> np.ndarray:
    """One batch from its files."""
    return np.stack([decode(read_item(item), resize_policy) for item in items])


def epoch_of_files(parallel: joblib.Parallel, items: list[ImageRef], resize_policy: ResizePolicy) -> None:
    """The same, decoded by processes that stay from epoch to epoch."""
    order = np.random.default_rng(0).permutation(len(items))
    parts = [[items[i] for i in order[start : start + BATCH]] for start in range(0, len(items), BATCH)]
    for pixels in parallel(joblib.delayed(decode_batch)(part, resize_policy) for part in parts):
        to_float(as_tensor(pixels))


def measure(place: Path, count: int, repeats: int) -> dict[str, Any]:
    """Images per second of the three, ``repeats`` times each, interleaved."""
    layout = find_layout(place)
    if layout is None:
        raise SystemExit(f"{place}: no CelebA here")
    items = layout.read("train").items[:count]
    resize_policy = celeba.resize_policy((3, 128, 128), crop="center128")
    rates: dict[str, list[float]] = {"caching": [], "epoch from the cache": [], "epoch from the JPEGs": []}
    workers = joblib.Parallel(n_jobs=default_threads(), backend="loky", return_as="generator", max_nbytes=None)
    epoch_of_files(workers, items[:256], resize_policy)  # start the processes
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            seconds, cached = timed(lambda cache=cache: make_cached(items, resize_policy, Path(cache)))
            rates["caching"].append(len(items) / seconds)
            read_cached(cached)  # into the page cache, as in every epoch but the first
            for name, epoch in (
                ("epoch from the cache", lambda cached=cached: read_cached(cached)),
                ("epoch from the JPEGs", lambda: epoch_of_files(workers, items, resize_policy)),
            ):
                seconds, _ = timed(epoch)
                rates[name].append(len(items) / seconds)
            epoch_of_files(workers, items[:256], resize_policy)  # caching shuts the shared processes down
    return {"images": len(items), "repeats": repeats, "images_per_second": rates}


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("celeba", type=Path)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    result = {
        **measure(options.celeba, options.images, options.repeats),
        "machine": describe_machine(torch.device("cpu")),
    }
    for name, rates in result["images_per_second"].items():
        print(f"{name:22} {statistics.median(rates):10,.0f} images/s  ({min(rates):,.0f} to {max(rates):,.0f})")
    pairs = zip(*(result["images_per_second"][f"epoch from the {which}"] for which in ("cache", "JPEGs")), strict=True)
    ratios = [cached / files for cached, files in pairs]
    print(
        f"cache / JPEGs          {statistics.median(ratios):10.1f} times     ({min(ratios):.1f} to {max(ratios):.1f})"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
