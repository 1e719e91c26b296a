"""How the time of an image in vaelab's training grows with the set, the size of its images, the latents, the batch.

python benchmarks/growth.py [--repeats 5] [--seconds 3] [--limit-mb 1024] [--json OUT] [--figure OUT.png]

Made-up pixels, a small network, every point a fresh process, the points of a repetition one after the other, the next
repetition beginning with another. The last point of the set's growth is a memory map five times larger than a limit on
the process's own memory (RLIMIT_DATA, the interpreter and torch included), read by windows (training.shuffle_window);
what the process held at most of its own (RssAnon) and of files (RssFile, which the system may take back) is reported.
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
from drawing_speed import draw_growth, save
from measures import Failed, run_for_json
from paired import paired_ratios, rotate, spread
from stepping import ENDLESS, made_up, time_steps

from vaelab import recipe as recipes
from vaelab.system.device import describe_machine, now, resolve_device

TIMES_LARGER = 5
"""The map than the limit."""
WINDOW_SHARE = 8
"""A window takes this part of the limit; two are in memory at a time."""
WINDOWS = 3
"""That a timing on the map lasts at least."""
SMALL = {"channels": [16, 32, 32], "strides": [2, 2, 2]}
PANELS = {
    "images": "images in the set",
    "side": "side of an image, pixels",
    "latents": "latents",
    "batch": "images in a batch",
}


@dataclass(frozen=True)
class Point:
    """One training to be timed."""

    panel: str
    x: int
    """The number that this panel varies."""
    images: int = 4096
    side: int = 64
    latents: int = 32
    batch: int = 32
    file: str = ""
    """The .npy file that the pixels are mapped from; empty: they are in memory."""
    limit: int = 0
    """Bytes of its own that the process may take; 0: any."""

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"{self.panel} {self.x:,}{' (map)' if self.file else ''}"


def choose_points(map_file: Path, limit: int) -> list[Point]:
    """Every point of the four panels."""
    row = 64 * 64 * 3
    count = TIMES_LARGER * limit // row
    return [
        *(Point("images", n, images=n) for n in (2_000, 10_000, 50_000)),
        Point("images", count, images=count, file=str(map_file), limit=limit),
        *(Point("side", side, side=side) for side in (32, 64, 128)),
        *(Point("latents", latents, latents=latents) for latents in (2, 8, 32, 128, 512)),
        *(Point("batch", batch, batch=batch) for batch in (8, 32, 128, 512)),
    ]


# -- in the process of one point --------------------------------------------------------------------------------------


def measure_point(point: Point, seconds: float, device: str) -> dict[str, Any]:
    """Train at one point."""
    found: dict[str, Any] = {}
    if point.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (point.limit, point.limit))
    tables = {
        "data": {"name": "folder"},
        "network": {"name": "conv", "latent_dim": point.latents, **SMALL},
        "training": {"batch_size": point.batch, "steps": ENDLESS, "validate_every": 0, "epochs": 1},
    }
    if point.file:
        pixels: Any = np.load(point.file, mmap_mode="r")
        window = point.limit // WINDOW_SHARE // int(np.prod(pixels.shape[1:]))
        tables["training"]["shuffle_window"] = window
        found = {"window": window, "set_fits_into_limit": fits(pixels.size)}
    else:
        pixels, window = made_up(point.images, (3, point.side, point.side)), 0
    recipe = recipes.validate(tables, "growth")
    least = 1 + WINDOWS * window // point.batch  # two windows are there when the clock starts
    return {**found, **time_steps(recipe, pixels, seconds, device=device, window=window, least_steps=least)}


def fits(size: int) -> bool:
    """Whether the process could hold so many bytes of its own."""
    with suppress(MemoryError):
        return len(np.empty(size, np.uint8)) == size
    return False


# -- in the process that compares them --------------------------------------------------------------------------------


class Held:
    """What a process holds in memory at most, MiB: its own and mapped from files."""

    def __init__(self) -> None:
        self.peak = {"RssAnon": 0.0, "RssFile": 0.0}

    def look(self, pid: int) -> None:
        """One sample from /proc."""
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self.peak:
                    self.peak[name] = max(self.peak[name], int(value.split()[0]) / 1024)


def write_map(path: Path, count: int) -> None:
    """Made-up pixels in a .npy file, a part at a time, on the disk and no longer in the system's page cache."""
    shape = (count, 64, 64, 3)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    part = made_up(4096, (3, 64, 64))
    for start in range(0, count, len(part)):
        pixels[start : start + len(part)] = part[: count - start]
    pixels.flush()
    del pixels
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_all(points: list[Point], repeats: int, seconds: float, device: str, scratch: Path) -> dict[str, list]:
    """Name of a point → what each repetition found."""
    found: dict[str, list[dict[str, Any] | None]] = {point.name: [] for point in points}
    for repetition in range(repeats):
        for name in rotate(list(found), repetition * 5):
            point = next(point for point in points if point.name == name)
            command = [sys.executable, __file__, "--point", json.dumps(asdict(point)), "--seconds", str(seconds)]
            held = Held()
            try:
                result = run_for_json([*command, "--device", device], scratch, held.look)
                found[name].append({**result, **held.peak})
            except Failed as error:
                print(f"{name}: {error}", file=sys.stderr)
                found[name].append(None)
            print(f"repetition {repetition + 1} of {repeats}: {name}", file=sys.stderr)
    return found


def summarise(points: list[Point], found: dict[str, list]) -> list[dict[str, Any]]:
    """For each point the microseconds of an image, and beside those of its panel's first, within repetitions."""
    rows = []
    for point in points:
        first = next(other for other in points if other.panel == point.panel)
        costs, firsts = (
            [run and 1000 * run["ms_per_image"] for run in found[name]] for name in (point.name, first.name)
        )
        runs = [run for run in found[point.name] if run]
        held = {key: max((run[key] for run in runs), default=None) for key in ("RssAnon", "RssFile")}
        ratio = spread(paired_ratios(costs, firsts))
        rows.append(
            {
                **asdict(point),
                "name": point.name,
                "us_per_image": spread(costs),
                "to_first": ratio,
                **held,
                "runs": runs,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, for people."""
    lines = [
        f"| {'point':22} | µs per image (range)       | to the first of its kind | own, MiB | files, MiB |",
        f"|{'-' * 24}|{'-' * 28}|{'-' * 26}|---------:|-----------:|",
    ]
    for row in rows:
        if row["us_per_image"] is None:
            lines.append(f"| {row['name']:22} | failed                     |{'':26}|          |            |")
            continue
        cost, ratio = row["us_per_image"], row["to_first"]
        what = f"{cost.median:8,.0f} ({cost.least:,.0f} to {cost.most:,.0f})"
        times = f"{ratio.median:6.2f} ({ratio.least:.2f} to {ratio.most:.2f})" if ratio else ""
        lines.append(
            f"| {row['name']:22} | {what:26} | {times:24} | {row['RssAnon']:8,.0f} | {row['RssFile']:10,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, write JSON and figure where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each point's steady part")
    parser.add_argument("--limit-mb", type=int, default=1024, help="memory of the process that trains on the map")
    parser.add_argument("--panels", default=",".join(PANELS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scratch", type=Path, help="a folder with room for the map (default: the system's)")
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
    print(table(rows))
    machine = describe_machine(resolve_device(options.device))
    if options.json:
        result = {"date": now(), "machine": machine, "limit_mb": options.limit_mb, "points": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.figure:
        save(draw_growth(rows, PANELS), options.figure)


if __name__ == "__main__":
    main()
