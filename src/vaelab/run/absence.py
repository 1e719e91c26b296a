"""Explanations of a path where no run is: the run that was probably meant, or how to make one."""

import difflib
import os
from pathlib import Path

from vaelab import recipe as recipes
from vaelab.run.layout import RECIPE

RUNS = Path("runs")
"""The folder in which runs are created by default."""
MOST_NAMED = 5


def explain_absence(path: Path) -> str:
    """Return one line: what is missing at ``path`` and which run was probably meant, or how to make one."""
    if inside := _list_runs(path):
        return f"{path} is a folder of runs, not a run; name one of them: {_join(inside)}"
    what = f"{path}: no run here (a run is a directory with {RECIPE}, created by vaelab train)"
    known = [run for folder in dict.fromkeys((path.parent, RUNS)) for run in _list_runs(folder)]
    stems = {run.name.partition("-")[0]: run for run in reversed(known)}  # the recipe, and the newest run of it
    names = {**stems, **{run.name: run for run in reversed(known)}}
    near = difflib.get_close_matches(path.name, list(names), n=1, cutoff=0.7)
    if path.name in names or near:
        return f"{what}; did you mean {names[path.name if path.name in names else near[0]]}?"
    if path.parent == Path() and path.name in recipes.presets():
        return f"{what}; {path} is a recipe: vaelab train {path} makes the run {RUNS / path}"
    return f"{what}; runs there are: {_join(known)}" if known else f"{what}; make one with vaelab train RECIPE"


def _list_runs(folder: Path) -> list[Path]:
    """Return the runs in a folder, the newest first."""
    try:
        found = [Path(entry.path) for entry in os.scandir(folder) if (Path(entry.path) / RECIPE).is_file()]
        return sorted(found, key=lambda run: (-(run / RECIPE).stat().st_mtime_ns, run.name))
    except OSError:
        return []


def _join(runs: list[Path]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
    return ", ".join(map(str, runs[:MOST_NAMED])) + more
