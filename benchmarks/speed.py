"""Compare vaelab with the usual PyTorch script and with Pythae: same data, layers and batches.

python benchmarks/speed.py [--data MNIST] [--faces CELEBA] [--pythae PYTHON] [--repeats 5] [--seconds 8]
    [--workloads mnist,celeba,…] [--device auto] [--json OUT] [--figure OUT.png]

Every measurement is a process of its own. Each repetition runs the rivals one after the other, in another order. Ratios
are taken within a repetition. vaelab is measured as ``vaelab train``, by the timing.csv of the run.

CELEBA is a folder in CelebA's layout, such as benchmarks/make_faces.py writes. PYTHON is an interpreter with Pythae:
    python -m venv .venv-pythae && .venv-pythae/bin/pip install pythae==0.1.2 torch==2.13.0 numpy pillow
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measurements import (
    HERE,
    MeasurementFailed,
    Result,
    Settings,
    measure_bulk,
    measure_caching,
    measure_command,
    measure_first_step,
    measure_memory,
    measure_training,
    run_json,
)
from paired import Spread, paired_ratios, rotate, spread
from plots import draw_ratios, save

from vaelab import recipe as recipes
from vaelab.data.datasets.mnist import DATASET as MNIST
from vaelab.system.device import describe_machine, resolve_device
from vaelab.system.machine import now


@dataclass(frozen=True)
class Workload:
    """A task that every rival performs, or vaelab alone."""

    title: str
    unit: str
    measure: Callable[[str, str, Settings], Result]
    is_vaelab_only: bool = False
    batch_size: int = 0
    """Images per training step; 0 for other tasks."""


WORKLOADS = {
    "mnist": Workload("train mnist", "ms per step", measure_training, batch_size=32),
    "celeba": Workload("train celeba", "ms per step", measure_training, batch_size=32),
    "celeba-beta": Workload("train celeba-beta", "ms per step", measure_training, batch_size=32),
    "mlp": Workload("train mlp 784–400–20", "ms per step", measure_training, batch_size=128),
    "encode": Workload("encode 60,000 images", "s", measure_bulk),
    "decode": Workload("decode 10,000 samples", "s", measure_bulk),
    "first-step": Workload("start to first step, mnist", "s", measure_first_step),
    "memory": Workload("peak memory, mnist", "MiB", measure_memory),
    "help": Workload("vaelab --help", "s", measure_command, is_vaelab_only=True),
    "version": Workload("vaelab --version", "s", measure_command, is_vaelab_only=True),
}
FACES = ("celeba", "celeba-beta")
TRAININGS = [name for name, workload in WORKLOADS.items() if workload.batch_size]


# -- measuring --------------------------------------------------------------------------------------------------------


def measure_once(rival: str, name: str, settings: Settings) -> Result | None:
    """One measurement; None, with a message on stderr, if it failed."""
    try:
        result = WORKLOADS[name].measure(rival, name, settings)
    except MeasurementFailed as error:
        print(f"{name}, {rival}: {error}", file=sys.stderr)
        return None
    print(f"{name}, {rival}: {result['cost']:.4g} {WORKLOADS[name].unit}", file=sys.stderr)
    return result


def measure_workload(name: str, settings: Settings, repeats: int) -> dict[str, list[Result | None]]:
    """Rival → one result per repetition."""
    rivals = ["vaelab"] if WORKLOADS[name].is_vaelab_only else settings.rivals
    if name in ("first-step", "help"):
        print(f"{name}: once untimed, so that byte code and caches exist", file=sys.stderr)
        for rival in rivals:
            measure_once(rival, name, settings)
    found: dict[str, list[Result | None]] = {rival: [] for rival in rivals}
    for repetition in range(repeats):
        print(f"{name}: repetition {repetition + 1} of {repeats}", file=sys.stderr)
        for rival in rotate(rivals, repetition):
            found[rival].append(measure_once(rival, name, settings))
    return found


def summarise(name: str, found: dict[str, list[Result | None]]) -> dict[str, Any]:
    """Medians with ranges, ratios within repetitions, and the results behind them."""
    workload = WORKLOADS[name]
    costs = {rival: [run and run["cost"] for run in runs] for rival, runs in found.items()}
    ratios = {rival: paired_ratios(costs[rival], costs["vaelab"]) for rival in costs if rival != "vaelab"}
    return {
        "name": name,
        "title": workload.title,
        "unit": workload.unit,
        "costs": {rival: spread(values) for rival, values in costs.items()},
        "ratios": {rival: spread(values) for rival, values in ratios.items()},
        "paired_ratios": ratios,
        "runs": found,
    }


def add_caching(row: dict[str, Any], caching: Result) -> None:
    """Add the ratios for a first training, whose steps share the cost of decoding over the published epochs."""
    epochs = recipes.load(row["name"]).training.epochs
    share = 1000 * caching["seconds"] / caching["count"] * WORKLOADS[row["name"]].batch_size / epochs
    costs = {rival: [run and run["cost"] for run in runs] for rival, runs in row["runs"].items()}
    whole = [cost and cost + share for cost in costs["vaelab"]]
    others = {rival: spread(paired_ratios(costs[rival], whole)) for rival in costs if rival != "vaelab"}
    row["with_caching"] = {"epochs": epochs, "caching_ms_per_step": share, "ratios": others}


def find_roofline(rows: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Peaks of the machine, and the fraction of its bound that each measured training of vaelab reaches."""
    measured = {row["name"]: row["costs"]["vaelab"] for row in rows if row["name"] in TRAININGS}
    names = [name for name, cost in measured.items() if cost]
    if not names:
        return {}
    command = [sys.executable, str(HERE / "roofline.py"), "--line", "--device", settings.device]
    try:
        found = run_json([*command, "--workloads", ",".join(names)], settings.scratch)
    except MeasurementFailed as error:
        print(f"roofline: {error}", file=sys.stderr)
        return {}
    for name, row in found["workloads"].items():
        row["ms_per_step_alone"] = row.pop("ms_per_step")
        row["ms_per_step"] = measured[name].median
        row["reached"] = row["ms_bound"] / measured[name].median
    return found


# -- reporting --------------------------------------------------------------------------------------------------------


def describe(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Machine, date and options of the measurements."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": now(),
        "machine": {
            **describe_machine(resolve_device(settings.device)),
            "processors": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory, 1),
            "load_before": os.getloadavg()[0],
        },
        "repeats": options.repeats,
        "seconds": options.seconds,
    }


def format_spread(values: Spread | None) -> str:
    """A median with its range."""
    if values is None:
        return ""
    texts = [f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in values]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as an aligned Markdown table."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def format_report(result: dict[str, Any], rivals: list[str]) -> str:
    """All results as tables: costs, ratios, caching, roofline."""
    others = [rival for rival in rivals if rival != "vaelab"]
    header = ["median (range)", "unit", *rivals, *(f"{rival} ÷ vaelab" for rival in others), "vaelab's precision"]
    rows = []
    for row in result["workloads"]:
        costs = [format_spread(row["costs"].get(rival)) for rival in rivals]
        ratios = [format_spread(row["ratios"].get(rival)) for rival in others]
        precisions = {run["precision"] for run in row["runs"]["vaelab"] if run and "precision" in run}
        rows.append([row["title"], row["unit"], *costs, *ratios, ", ".join(sorted(precisions))])
    parts = [format_table(header, rows)]
    if "caching" in result:
        caching = result["caching"]
        rate = caching["count"] / caching["seconds"]
        lines = [f"Decoding, once: {caching['seconds']:.1f} s for {caching['count']:,} faces ({rate:,.0f} per second)."]
        for row in (row for row in result["workloads"] if "with_caching" in row):
            shared = row["with_caching"]
            ratios = ", ".join(f"{name} {format_spread(value)}" for name, value in shared["ratios"].items())
            lines.append(f"Spread over {shared['epochs']} epochs of {row['name']}, rival ÷ vaelab: {ratios}.")
        parts.append("\n".join(lines))
    if result.get("roofline"):
        from roofline import format_results

        parts.append(format_results(result["roofline"]))
    return "\n\n".join(parts)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of MNIST (default: where vaelab finds or downloads it)")
    parser.add_argument("--faces", type=Path, help="folder in CelebA's layout; without it, no CelebA workloads")
    parser.add_argument("--pythae", type=Path, help="Python interpreter that has Pythae; without it, no Pythae")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the steady part of each training")
    parser.add_argument("--workloads", help=f"some of {', '.join(WORKLOADS)} (default: all that have data)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--figure", type=Path, help="draw the ratios into this file")
    options = parser.parse_args()
    possible = [name for name in WORKLOADS if options.faces or name not in FACES]
    options.workloads = options.workloads.split(",") if options.workloads else possible
    impossible = [name for name in options.workloads if name not in possible]
    if impossible:
        remedy = "give --faces" if impossible[0] in FACES else f"valid: {', '.join(WORKLOADS)}"
        parser.error(f"workload {impossible[0]!r}: {remedy}")
    options.data = MNIST.find(options.data) or MNIST.get(options.data)
    if not options.data.is_dir():
        parser.error(f"{options.data}: the rivals need MNIST's own four files")
    return options


def main() -> None:
    """Measure every workload and write JSON after each; at the end print tables and draw the figure."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        paths = [path and path.absolute() for path in (options.data, options.faces, options.pythae)]
        settings = Settings(*paths, options.seconds, device, Path(folder))
        result: dict[str, Any] = {**describe(settings, options), "workloads": []}
        if set(FACES) & set(options.workloads):
            result["caching"] = measure_caching(settings)
        for name in options.workloads:
            row = summarise(name, measure_workload(name, settings, options.repeats))
            if name in FACES:
                add_caching(row, result["caching"])
            result["workloads"].append(row)
            write_json(result, options.json)
        result["roofline"] = find_roofline(result["workloads"], settings)
    result["versions"] = find_versions(result["workloads"])
    write_json(result, options.json)
    print(format_report(result, settings.rivals))
    if options.figure and any(any(row["ratios"].values()) for row in result["workloads"]):
        machine = result["machine"]
        subtitle = (
            f"{machine['processor']}, {machine['device']}, {machine['processors']} processors, {result['date'][:10]}"
        )
        save(draw_ratios(result["workloads"], subtitle), options.figure)
    failures = sum(run is None for row in result["workloads"] for runs in row["runs"].values() for run in runs)
    if failures:
        sys.exit(f"{failures} measurements failed and are left out")


def write_json(result: dict[str, Any], path: Path | None) -> None:
    """Write the numbers so far; a ``Spread`` becomes a mapping."""
    if path is not None:
        named = lambda value: value._asdict() if isinstance(value, Spread) else value  # noqa: E731
        rows = [
            {**row, **{key: {rival: named(value) for rival, value in row[key].items()} for key in ("costs", "ratios")}}
            for row in result["workloads"]
        ]
        path.write_text(json.dumps({**result, "workloads": rows}, indent=2, ensure_ascii=False) + "\n")


def find_versions(rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Rival → versions of its libraries."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        for rival, runs in row["runs"].items():
            for run in filter(None, runs):
                found.setdefault(rival, {}).update({key: run[key] for key in ("torch", "pythae") if key in run})
    return found


if __name__ == "__main__":
    main()
