"""vaelab beside its rivals: the usual PyTorch script and Pythae, on the same data, layers and batches.

python benchmarks/speed.py [--data MNIST] [--faces CELEBA] [--pythae PYTHON] [--repeats 5] [--seconds 8]
    [--work mnist,celeba,…] [--device auto] [--json OUT] [--figure OUT.png]

Every measurement is a process of its own. Within a repetition the rivals follow one another, and each repetition begins
with another of them; a ratio is taken within a repetition. vaelab is what a person types, `vaelab train`; its rate is
that of its timing.csv. CELEBA is a folder in CelebA's layout, such as benchmarks/make_faces.py writes. PYTHON is one
that has Pythae, such as that of
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
from drawing_speed import draw_ratios, save
from measures import (
    HERE,
    Failed,
    Result,
    Setting,
    measure_bulk,
    measure_caching,
    measure_command,
    measure_first_step,
    measure_memory,
    measure_training,
    run_for_json,
)
from paired import paired_ratios, rotate, spread

from vaelab import recipe as recipes
from vaelab.data.datasets import mnist
from vaelab.system.device import describe_machine, now, resolve_device


@dataclass(frozen=True)
class Work:
    """Something that every rival does, or vaelab alone."""

    title: str
    unit: str
    measure: Callable[[str, str, Setting], Result]
    is_alone: bool = False
    batch_size: int = 0
    """Of a training, whose unit is a step."""


WORKS = {
    "mnist": Work("train mnist", "ms a step", measure_training, batch_size=32),
    "celeba": Work("train celeba", "ms a step", measure_training, batch_size=32),
    "celeba-beta": Work("train celeba-beta", "ms a step", measure_training, batch_size=32),
    "mlp": Work("train mlp 784–400–20", "ms a step", measure_training, batch_size=128),
    "encode": Work("encode 60,000 images", "s", measure_bulk),
    "decode": Work("decode 10,000 samples", "s", measure_bulk),
    "first-step": Work("start to first step, mnist", "s", measure_first_step),
    "memory": Work("peak memory, mnist", "MiB", measure_memory),
    "help": Work("vaelab --help", "s", measure_command, is_alone=True),
    "version": Work("vaelab --version", "s", measure_command, is_alone=True),
}
FACES = ("celeba", "celeba-beta")
TRAININGS = [name for name, work in WORKS.items() if work.batch_size]


# -- measuring --------------------------------------------------------------------------------------------------------


def measure_once(rival: str, name: str, setting: Setting) -> Result | None:
    """One measurement; None, and a word on stderr, where it failed."""
    try:
        result = WORKS[name].measure(rival, name, setting)
    except Failed as error:
        print(f"{name}, {rival}: {error}", file=sys.stderr)
        return None
    print(f"{name}, {rival}: {result['cost']:.4g} {WORKS[name].unit}", file=sys.stderr)
    return result


def measure_work(name: str, setting: Setting, repeats: int) -> dict[str, list[Result | None]]:
    """Rival → what each repetition found."""
    work = WORKS[name]
    rivals = ["vaelab"] if work.is_alone else setting.rivals
    if name in ("first-step", "help"):
        print(f"{name}: once before, so that nothing is compiled or cached any more", file=sys.stderr)
        for rival in rivals:
            measure_once(rival, name, setting)
    found: dict[str, list[Result | None]] = {rival: [] for rival in rivals}
    for repetition in range(repeats):
        print(f"{name}: repetition {repetition + 1} of {repeats}", file=sys.stderr)
        for rival in rotate(rivals, repetition):
            found[rival].append(measure_once(rival, name, setting))
    return found


def summarise(name: str, found: dict[str, list[Result | None]]) -> dict[str, Any]:
    """Medians with ranges, ratios within repetitions, and everything they were found from."""
    work = WORKS[name]
    costs = {rival: [run and run["cost"] for run in runs] for rival, runs in found.items()}
    ratios = {rival: paired_ratios(costs[rival], costs["vaelab"]) for rival in costs if rival != "vaelab"}
    return {
        "name": name,
        "title": work.title,
        "unit": work.unit,
        "costs": {rival: spread(values) for rival, values in costs.items()},
        "ratios": {rival: spread(values) for rival, values in ratios.items()},
        "paired_ratios": ratios,
        "runs": found,
    }


def add_caching(row: dict[str, Any], caching: Result) -> None:
    """What a step costs with its share of the caching that precedes a first training, over the published epochs."""
    epochs = recipes.load(row["name"]).training.epochs
    share = 1000 * caching["seconds"] / caching["count"] * WORKS[row["name"]].batch_size / epochs
    costs = {rival: [run and run["cost"] for run in runs] for rival, runs in row["runs"].items()}
    whole = [cost and cost + share for cost in costs["vaelab"]]
    others = {rival: spread(paired_ratios(costs[rival], whole)) for rival in costs if rival != "vaelab"}
    row["with_caching"] = {"epochs": epochs, "ms_a_step_of_it": share, "ratios": others}


def find_roofline(rows: list[dict[str, Any]], setting: Setting) -> dict[str, Any]:
    """Peaks of the machine, and how much of its bound each of vaelab's measured trainings reaches."""
    measured = {row["name"]: row["costs"]["vaelab"] for row in rows if row["name"] in TRAININGS}
    works = [name for name, cost in measured.items() if cost]
    if not works:
        return {}
    command = [sys.executable, str(HERE / "roofline.py"), "--line", "--device", setting.device]
    try:
        found = run_for_json([*command, "--work", ",".join(works)], setting.scratch)
    except Failed as error:
        print(f"roofline: {error}", file=sys.stderr)
        return {}
    for name, row in found["works"].items():
        row["ms_per_step_alone"] = row.pop("ms_per_step")
        row["ms_per_step"] = measured[name].median
        row["reached"] = row["ms_bound"] / measured[name].median
    return found


# -- telling ----------------------------------------------------------------------------------------------------------


def describe(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions, and how the rest was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": now(),
        "machine": {
            **describe_machine(resolve_device(setting.device)),
            "processors": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory, 1),
            "load_before": os.getloadavg()[0],
        },
        "repeats": options.repeats,
        "seconds": options.seconds,
    }


def tell_spread(values: Any) -> str:
    """A median with its range."""
    if values is None:
        return ""
    texts = [f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in values]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def as_table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as aligned Markdown; the first column is words."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    head = "| " + " | ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)) + " |"
    return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines])


def tell(result: dict[str, Any], rivals: list[str]) -> str:
    """Everything as tables: costs, ratios, the caching, the roofline."""
    others = [rival for rival in rivals if rival != "vaelab"]
    header = ["median (range)", "unit", *rivals, *(f"{rival} ÷ vaelab" for rival in others), "vaelab's precision"]
    rows = []
    for row in result["works"]:
        costs = [tell_spread(row["costs"].get(rival)) for rival in rivals]
        ratios = [tell_spread(row["ratios"].get(rival)) for rival in others]
        precisions = {run["precision"] for run in row["runs"]["vaelab"] if run and "precision" in run}
        rows.append([row["title"], row["unit"], *costs, *ratios, ", ".join(sorted(precisions))])
    parts = [as_table(header, rows)]
    if "caching" in result:
        caching = result["caching"]
        rate = caching["count"] / caching["seconds"]
        words = [f"Caching, once: {caching['seconds']:.1f} s for {caching['count']:,} faces ({rate:,.0f} a second)."]
        for row in (row for row in result["works"] if "with_caching" in row):
            shared = row["with_caching"]
            ratios = ", ".join(f"{name} {tell_spread(value)}" for name, value in shared["ratios"].items())
            words.append(f"With it spread over {shared['epochs']} epochs of {row['name']}, rival ÷ vaelab: {ratios}.")
        parts.append("\n".join(words))
    if result.get("roofline"):
        from roofline import table

        parts.append(table(result["roofline"]))
    return "\n\n".join(parts)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of MNIST (default: where vaelab finds or downloads it)")
    parser.add_argument("--faces", type=Path, help="a folder in CelebA's layout; without it its works are left out")
    parser.add_argument("--pythae", type=Path, help="a Python that has Pythae; without it Pythae is left out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of the steady part of each training")
    parser.add_argument("--work", help=f"which, of {', '.join(WORKS)} (default: all that there is data for)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    parser.add_argument("--figure", type=Path, help="draw the ratios here")
    options = parser.parse_args()
    possible = [name for name in WORKS if options.faces or name not in FACES]
    options.work = options.work.split(",") if options.work else possible
    impossible = [name for name in options.work if name not in possible]
    if impossible:
        wanted = "give --faces" if impossible[0] in FACES else f"valid: {', '.join(WORKS)}"
        parser.error(f"work {impossible[0]!r}: {wanted}")
    options.data = mnist.find(options.data) or mnist.get(options.data)
    if not options.data.is_dir():
        parser.error(f"{options.data}: the rivals need MNIST's own four files")
    return options


def main() -> None:
    """Measure; print tables; write JSON after every work, so that what was measured is kept, and the figure."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        places = [place and place.absolute() for place in (options.data, options.faces, options.pythae)]
        setting = Setting(*places, options.seconds, device, Path(folder))
        result: dict[str, Any] = {**describe(setting, options), "works": []}
        if set(FACES) & set(options.work):
            result["caching"] = measure_caching(setting)
        for name in options.work:
            row = summarise(name, measure_work(name, setting, options.repeats))
            if name in FACES:
                add_caching(row, result["caching"])
            result["works"].append(row)
            write(result, options.json)
        result["roofline"] = find_roofline(result["works"], setting)
    result["versions"] = versions(result["works"])
    write(result, options.json)
    print(tell(result, setting.rivals))
    if options.figure and any(any(row["ratios"].values()) for row in result["works"]):
        machine = result["machine"]
        about = (
            f"{machine['processor']}, {machine['device']}, {machine['processors']} processors, {result['date'][:10]}"
        )
        save(draw_ratios(result["works"], about), options.figure)
    failures = sum(run is None for row in result["works"] for runs in row["runs"].values() for run in runs)
    if failures:
        sys.exit(f"{failures} measurements failed; they are left out above")


def write(result: dict[str, Any], path: Path | None) -> None:
    """The numbers so far, medians with their names."""
    if path is not None:
        named = lambda value: value._asdict() if hasattr(value, "_asdict") else value  # noqa: E731
        works = [
            {**row, **{key: {r: named(v) for r, v in row[key].items()} for key in ("costs", "ratios")}}
            for row in result["works"]
        ]
        path.write_text(json.dumps({**result, "works": works}, indent=2, ensure_ascii=False) + "\n")


def versions(rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Rival → what it said of its libraries."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        for rival, runs in row["runs"].items():
            for run in filter(None, runs):
                found.setdefault(rival, {}).update({key: run[key] for key in ("torch", "pythae") if key in run})
    return found


if __name__ == "__main__":
    main()
