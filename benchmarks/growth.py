"""Measure how vaelab's training time per image grows with the set, the image size, the latents and the batch.

python benchmarks/growth.py [--repeats 5] [--seconds 3] [--limit-mb 1024] [--json OUT] [--figure OUT.png]

Random pixels, a small network, and a fresh process for every point. A repetition measures all points, each time in
another order. The largest set is a memory map five times larger than the limit of the process's own memory
(RLIMIT_DATA, interpreter and torch included). It is read through a shuffle buffer (training.shuffle_buffer). The report
has the peak of the process's own memory (RssAnon) and of mapped files (RssFile), which the system may reclaim.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measurements import MeasurementFailed, run_json
from paired import paired_ratios, rotate, spread
from plots import draw_growth, save
from timing import UNLIMITED_STEPS, random_pixels, time_steps

from vaelab import recipe as recipes
from vaelab.system.device import describe_machine, resolve_device
from vaelab.system.machine import now

MAP_FACTOR = 5
"""Size of the memory map over the memory limit."""
WINDOW_FACTOR = 8
"""Memory limit over the size of a window; two windows are in memory at a time."""
MIN_WINDOWS = 3
"""Windows that a timing on the memory map lasts at least."""
NETWORK = {"channels": [16, 32, 32], "strides": [2, 2, 2]}
PANELS = {
    "images": "images in the set",
    "side": "side of an image, pixels",
    "latents": "latents",
    "batch": "images in a batch",
}


@dataclass(frozen=True)
class Point:
    """One training to time."""

    panel: str
    x: int
    """Value of the quantity that this panel varies."""
    images: int = 4096
    side: int = 64
    latents: int = 32
    batch: int = 32
    file: str = ""
    """The .npy file from which the pixels are mapped; empty: they are in memory."""
    limit: int = 0
    """Limit of the process's own memory in bytes (RLIMIT_DATA); 0: none."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.panel} {self.x:,}{' (map)' if self.file else ''}"


def choose_points(map_file: Path, limit: int) -> list[Point]:
    """All points of the four panels."""
    row = 64 * 64 * 3
    count = MAP_FACTOR * limit // row
    return [
        *(Point("images", n, images=n) for n in (2_000, 10_000, 50_000)),
        Point("images", count, images=count, file=str(map_file), limit=limit),
        *(Point("side", side, side=side) for side in (32, 64, 128)),
        *(Point("latents", latents, latents=latents) for latents in (2, 8, 32, 128, 512)),
        *(Point("batch", batch, batch=batch) for batch in (8, 32, 128, 512)),
    ]


# -- in the process of one point --------------------------------------------------------------------------------------


def measure_point(point: Point, seconds: float, device: str) -> dict[str, Any]:
    """Time the training of one point."""
    found: dict[str, Any] = {}
    if point.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (point.limit, point.limit))
    tables = {
        "data": {"name": "folder"},
        "network": {"name": "conv", "latent_dim": point.latents, **NETWORK},
        "training": {"batch_size": point.batch, "steps": UNLIMITED_STEPS, "validate_every": 0, "epochs": 1},
    }
    if point.file:
        pixels: Any = np.load(point.file, mmap_mode="r")
        window = point.limit // WINDOW_FACTOR // int(np.prod(pixels.shape[1:]))
        tables["training"]["shuffle_buffer"] = window
        found = {"window": window, "set_fits_into_limit": can_allocate(pixels.size)}
    else:
        pixels, window = random_pixels(point.images, (3, point.side, point.side)), 0
    recipe = recipes.validate(tables, "growth")
    min_steps = 1 + MIN_WINDOWS * window // point.batch  # two windows are loaded when the clock starts
    return {**found, **time_steps(recipe, pixels, seconds, device=device, window=window, min_steps=min_steps)}


def can_allocate(size: int) -> bool:
    """Whether the process can allocate ``size`` bytes."""
    with suppress(MemoryError):
        return len(np.empty(size, np.uint8)) == size
    return False


# -- in the process that compares them --------------------------------------------------------------------------------


class ResidentMemory:
    """Peak resident memory of a process in MiB: anonymous (RssAnon) and mapped from files (RssFile)."""

    def __init__(self) -> None:
        self.peak = {"RssAnon": 0.0, "RssFile": 0.0}

    def sample(self, pid: int) -> None:
        """Take one sample from /proc."""
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self.peak:
                    self.peak[name] = max(self.peak[name], int(value.split()[0]) / 1024)


def write_map(path: Path, count: int) -> None:
    """Write random pixels to a .npy file and drop them from the page cache."""
    shape = (count, 64, 64, 3)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    part = random_pixels(4096, (3, 64, 64))
    for start in range(0, count, len(part)):
        pixels[start : start + len(part)] = part[: count - start]
    pixels.flush()
    del pixels
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_all(points: list[Point], repeats: int, seconds: float, device: str, scratch: Path) -> dict[str, list]:
    """Name of a point → one result per repetition."""
    found: dict[str, list[dict[str, Any] | None]] = {point.name: [] for point in points}
    for repetition in range(repeats):
        for name in rotate(list(found), repetition * 5):
            point = next(point for point in points if point.name == name)
            command = [sys.executable, __file__, "--point", json.dumps(asdict(point)), "--seconds", str(seconds)]
            memory = ResidentMemory()
            try:
                result = run_json([*command, "--device", device], scratch, memory.sample)
                found[name].append({**result, **memory.peak})
            except MeasurementFailed as error:
                print(f"{name}: {error}", file=sys.stderr)
                found[name].append(None)
            print(f"repetition {repetition + 1} of {repeats}: {name}", file=sys.stderr)
    return found


def summarise(points: list[Point], found: dict[str, list]) -> list[dict[str, Any]]:
    """Microseconds per image of each point, and their ratio to the first point of the panel within repetitions."""
    rows = []
    for point in points:
        first = next(other for other in points if other.panel == point.panel)
        costs, firsts = (
            [run and 1000 * run["ms_per_image"] for run in found[name]] for name in (point.name, first.name)
        )
        runs = [run for run in found[point.name] if run]
        memory = {key: max((run[key] for run in runs), default=None) for key in ("RssAnon", "RssFile")}
        rows.append(
            {
                **asdict(point),
                "name": point.name,
                "us_per_image": spread(costs),
                "to_first": spread(paired_ratios(costs, firsts)),
                **memory,
                "runs": runs,
            }
        )
    return rows


def format_table(rows: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = [
        f"| {'point':22} | µs per image (range)       | ÷ first of the panel     | own, MiB | files, MiB |",
        f"|{'-' * 24}|{'-' * 28}|{'-' * 26}|---------:|-----------:|",
    ]
    for row in rows:
        if row["us_per_image"] is None:
            lines.append(f"| {row['name']:22} | failed                     |{'':26}|          |            |")
            continue
        cost, ratio = row["us_per_image"], row["to_first"]
        time = f"{cost.median:8,.0f} ({cost.lowest:,.0f} to {cost.highest:,.0f})"
        relative = f"{ratio.median:6.2f} ({ratio.lowest:.2f} to {ratio.highest:.2f})" if ratio else ""
        lines.append(
            f"| {row['name']:22} | {time:26} | {relative:24} | {row['RssAnon']:8,.0f} | {row['RssFile']:10,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON and the figure if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the timing of each point")
    parser.add_argument(
        "--limit-mb", type=int, default=1024, help="memory limit of the process that trains on the memory map"
    )
    parser.add_argument("--panels", default=",".join(PANELS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scratch", type=Path, help="folder with room for the memory map (default: the system's)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure_point(Point(**options.point), options.seconds, options.device)))
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        map_file = Path(folder) / "pixels.npy"
        points = [p for p in choose_points(map_file, options.limit_mb << 20) if p.panel in options.panels.split(",")]
        for point in points:
            if point.file:
                write_map(map_file, point.images)
        found = measure_all(points, options.repeats, options.seconds, options.device, Path(folder))
    rows = summarise(points, found)
    print(format_table(rows))
    machine = describe_machine(resolve_device(options.device))
    if options.json:
        result = {"date": now(), "machine": machine, "limit_mb": options.limit_mb, "points": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.figure:
        save(draw_growth(rows, PANELS), options.figure)


if __name__ == "__main__":
    main()
