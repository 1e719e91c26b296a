"""Content of the page of a comparison or a sweep, for the template."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from vaelab.data.datasets import load_dataset
from vaelab.evaluation.metrics import Quantity, Question
from vaelab.exporters.comparison_report import Groups, render_comparison
from vaelab.exporters.page import Picture, read_pictures
from vaelab.run import REPORT, Run
from vaelab.system.files import write_atomic
from vaelab.system.messages import count_of, warn
from vaelab.system.paths import name_for_people

PICTURES, CHARTS = ("rate-distortion.png", "side-by-side.png"), ("comparison.png",)
"""The files that the page shows first, in this order, and above the tables."""
MOST_NAMED, MOST_EXPLORED = 6, 2


def write_comparison_page(
    folder: Path,
    title: str,
    groups: Groups,
    quantities: Sequence[tuple[Question | None, Quantity]],
    *,
    obstacles: Sequence[str],
    remarks: Sequence[str],
    commands: Sequence[str],
) -> Path:
    """Write report.html into the folder of a comparison, whose pictures are there already, and return its path."""
    pictures, charts = (_read(folder, names) for names in (PICTURES, CHARTS))
    firsts = [Path(rows[0]["run"]) for rows in groups.values()][:MOST_EXPLORED]
    page = render_comparison(
        title=title,
        lead=_describe(groups),
        groups=groups,
        quantities=quantities,
        obstacles=obstacles,
        remarks=remarks,
        pictures=pictures,
        charts=charts,
        explore=" ".join(["vaelab explore", *map(name_for_people, firsts)]),
        commands=commands,
    )
    write_atomic(folder / REPORT, page.encode())
    return folder / REPORT


def _read(folder: Path, names: Sequence[str]) -> list[Picture]:
    """Return the pictures that exist, and warn about those that cannot be read."""
    found = {name.removesuffix(".png"): folder / name for name in names if (folder / name).exists()}
    pictures, problems = read_pictures(found, list(found))
    for problem in problems:
        warn(problem)
    return pictures


def _describe(groups: Groups) -> str:
    """Say in one sentence what was compared, on which images."""
    rows = [row for members in groups.values() for row in members]
    titles = {load_dataset(Run(row["run"]).recipe.data["name"]).info.title for row in rows}
    data = sorted(title.replace("Your own", "your own") for title in titles)
    images = " or ".join(f"{count:,}" for count in sorted({row["held_out_images"] for row in rows}))
    named = ", ".join(groups) if len(groups) <= MOST_NAMED else f"{len(groups)} recipes"
    runs = count_of(len(rows), "run")
    if len(groups) == 1:
        what = f"{runs} of one recipe that differ in their seed" if len(rows) > 1 else f"One run of {named}"
    else:
        what = f"{runs} of {len(groups)} recipes ({named})" if len(rows) > len(groups) else f"{runs} ({named})"
    source = data[0] if len(data) == 1 else f"different data ({'; '.join(data)})"
    return f"{what}, trained on {source} and measured on {images} held-out images."


def compare_command(runs: Sequence[Path], data: str | Path | None) -> str:
    """Return the command that makes a comparison again."""
    place = shlex.join(["--data", str(data)]) if data else ""
    return " ".join(filter(None, ["vaelab compare", *map(name_for_people, runs), place]))
