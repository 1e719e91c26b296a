"""``vaelab sweep``: a recipe at every value of some keys and with several seeds, and what these trade."""

import itertools
import re
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import recipe as recipes
from vaelab.api.compare import Comparison, compare, draw
from vaelab.api.plan import plan, run_directory, run_name
from vaelab.api.run_images import load_images
from vaelab.api.train import Event, Note
from vaelab.api.workers import Job, train_all
from vaelab.build import build
from vaelab.evaluation.comparability import label_values, word_of
from vaelab.figures import rate_distortion
from vaelab.recipe import Recipe
from vaelab.run import OtherRecipe, Run
from vaelab.system.arguments import check_whole, describe
from vaelab.system.device import default_threads
from vaelab.system.errors import RecipeError, UsageError
from vaelab.system.files import NAME_BYTES, fit_name, write_atomic

PICTURE = "rate-distortion.png"
PIECE = r"""((?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,\["'])*)(?:,|$)"""
"""Text up to a comma that stands neither in a list nor in quotes."""

Over = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Member:
    """One run of a sweep."""

    run: Run
    point: dict[str, Any]
    """The values of the swept keys."""
    seed: int
    overrides: dict[str, Any]
    state: str
    """"new", "resumes" or "done", when the sweep was planned."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do."""

    path: Path
    recipe: Recipe
    over: dict[str, list[Any]]
    members: list[Member]
    jobs: int
    threads: int
    """Of each run: the recipe's, else those of the sweep's first start, else the processors divided by the jobs."""


@dataclass(frozen=True)
class MemberEnded:
    """One run of a sweep is done, was done before, or failed with a reason."""

    member: Member
    position: int
    """How many have ended, this one included."""
    of: int
    state: str
    """"trained", "done" or "failed"."""
    reason: str = ""


SweepEvent = SweepPlan | MemberEnded | Event
Watch = Callable[[SweepEvent], None]


@dataclass(frozen=True)
class Sweep:
    """A sweep that has come to its end."""

    path: Path
    comparison: Comparison | None
    """Of the runs that did not fail; None where all did."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a run → why."""


def _unwatched(event: SweepEvent) -> None:
    """From Python, a warning is a warning, and so is a run that failed."""
    if isinstance(event, Note) and event.warning:
        warnings.warn(event.text, stacklevel=2)
    elif isinstance(event, MemberEnded) and event.state == "failed":
        warnings.warn(f"{event.member.run.path}: {event.reason}", stacklevel=2)


def sweep(
    name: str | Path,
    over: Over,
    *,
    seeds: int = 1,
    set: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    device: str = "auto",
    watch: Watch = _unwatched,
) -> Sweep:
    """Train a recipe at every combination of the values of ``over`` with seeds 0 … ``seeds`` − 1, and compare the runs.

    Each is a run OUT/KEY=VALUE-seed=K of its own; one that is finished is not run again, one that stopped goes on, one
    that fails lets the others go on. OUT also gets comparison.json, .csv, .png, side-by-side.png and
    rate-distortion.png. ``jobs``: runs at a time, each a process of its own if there are several. Raises RecipeError
    before anything starts, and Interrupted after it was asked to stop and all runs have saved.
    """
    planned = plan_sweep(name, over, seeds=seeds, set=set, data=data, out=out, jobs=jobs)
    watch(planned)
    if jobs > 1 and any(member.state == "new" for member in planned.members):
        _fetch(planned, name, data)
    failed: dict[str, str] = {}
    jobs_to_do = [Job(member.run, member.overrides) for member in planned.members]
    ends = train_all(jobs_to_do, str(name), planned.jobs, data=data, device=device, watch=watch)
    with closing(ends):  # whatever happens, no process outlives this one
        for ended, (job, state, reason) in enumerate(ends, 1):
            member = next(member for member in planned.members if member.run is job.run)
            if state == "failed":
                failed[member.run.name] = reason
            watch(MemberEnded(member, ended, len(planned.members), state, reason))
    done = [member for member in planned.members if member.run.name not in failed]
    if not done:
        return Sweep(planned.path, None, failed)
    comparison = compare([member.run.path for member in done], out=planned.path, data=data, overwrite=True)
    arrays = rate_distortion_arrays(planned.over, done, comparison)
    write_atomic(planned.path / PICTURE, draw(rate_distortion, arrays))
    paths = {**comparison.paths, PICTURE: planned.path / PICTURE}
    return Sweep(planned.path, replace(comparison, paths=paths), failed)


def parse_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``objective.beta=1,2,5`` → {"objective.beta": [1, 2, 5]}; values as TOML, those that are none as strings."""
    over: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        try:
            parsed = tomllib.loads(f"values = [{values}]")
        except tomllib.TOMLDecodeError:
            parsed = {}
        if set(parsed) == {"values"}:
            found = parsed["values"]
        else:
            pieces = re.findall(PIECE, values)[:-1]  # the last is the empty one at the end
            found = [recipes.parse_override(f"value={piece}")[1] for piece in pieces]
        if not key or not found or "" in found:
            example = "write it as section.key=value,value, such as --over objective.beta=1,2,5"
            raise RecipeError(f"--over {text!r}: {example}")
        if key in over:
            raise RecipeError(f"--over {key} is given twice; give all its values at once, separated by commas")
        over[key] = found
    return over


def _fetch(planned: SweepPlan, name: str | Path, data: str | Path | None) -> None:
    """Have all data downloaded and cached once, not by every process for itself."""
    loaded: list[dict[str, Any]] = []
    for member in planned.members:
        recipe = recipes.load(name, member.overrides)
        if recipe.data not in loaded:
            load_images(recipe, Path(data) if data else None)
            loaded.append(recipe.data)


# -- planning ---------------------------------------------------------------------------------------------------------


def plan_sweep(
    name: str | Path,
    over: Over,
    *,
    seeds: int = 1,
    set: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
) -> SweepPlan:
    """What ``sweep`` with these arguments would do; every mistake that can be known before is raised here."""
    given = recipes.check_overrides(set)
    if not isinstance(over, Mapping):
        raise TypeError(f"over must be a mapping of keys to lists; got {describe(over)}")
    values = {key: _choices(key, choices) for key, choices in over.items()}
    seeds, jobs = check_whole(seeds, "seeds", 1), check_whole(jobs, "jobs", 1)
    _check(values, given, seeds, jobs)
    base = recipes.load(name, given)
    path = Path(out) if out else run_directory(f"{base.name}-sweep-{'-'.join(values)}", given)
    points = [dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())]
    directories = {(i, seed): path / _directory(points[i], seed) for i in range(len(points)) for seed in range(seeds)}
    threads = _threads(base, values, directories.values(), jobs)
    members, shapes = [], {}
    for (i, seed), directory in directories.items():
        run = Run(directory)
        overrides = {**given, **points[i], "training.seed": seed, "training.threads": threads}
        if "training.threads" in values:
            overrides["training.threads"] = points[i]["training.threads"]
        recipe = recipes.load(name, overrides)
        try:
            if run.exists:
                run.check_same(recipe)
            run.check_free()
        except (OtherRecipe, FileExistsError) as error:
            raise type(error)(str(error).replace("--run", "--out")) from None
        key = recipes.toml_value(list(map(str, sorted(recipe.data.items()))))
        if key not in shapes:
            facts = plan(str(name), overrides, data=data, run=directory)
            shapes[key] = facts["image_shape"], facts["images"]["train"]
        with torch.device("meta"):
            build(recipe, *shapes[key])
        state = "done" if run.is_finished else "resumes" if run.exists else "new"
        members.append(Member(run, points[i], seed, overrides, state))
    if len({member.run.path for member in members}) < len(members):
        raise UsageError("two values of --over make one directory; leave one of them out")
    return SweepPlan(path, base, values, members, jobs, threads)


def _choices(key: str, choices: object) -> list[Any]:
    """The values of one key; TypeError for what is no list of them."""
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        raise TypeError(f"over: the values of {key} must be a list; got {describe(choices)}")
    return [value.item() if isinstance(value, np.generic) else value for value in choices]


def _check(over: Over, given: Mapping[str, Any], seeds: int, jobs: int) -> None:
    """UsageError for what makes no sense whatever the recipe."""
    if not over:
        raise UsageError("nothing to sweep over: give --over section.key=value,value")
    for key, choices in over.items():
        if key == "training.seed":
            raise UsageError("--over training.seed: seeds are given by --seeds N, which means 0 … N − 1")
        if key in given:
            raise UsageError(f"{key} stands in --set and in --over; give it once")
        if not choices:
            raise UsageError(f"--over {key}: no values")
        twice = [value for i, value in enumerate(choices) if value in choices[:i]]
        if twice:
            raise UsageError(f"--over {key}: {recipes.toml_value(twice[0])} is given twice")
    if "training.seed" in given:
        raise UsageError("--set training.seed: in a sweep, seeds are given by --seeds N, which means 0 … N − 1")
    if seeds < 1 or jobs < 1:
        raise UsageError("--seeds and --jobs must be 1 or more")


def _directory(point: Mapping[str, Any], seed: int) -> str:
    words, ending = run_name("", point).removeprefix("-"), f"-seed={seed}"
    return fit_name(words, NAME_BYTES - len(ending)) + ending


def _threads(base: Recipe, over: Over, directories: Any, jobs: int) -> int:
    """The number that all runs of a sweep have: bits depend on it, so a sweep that goes on keeps it."""
    if base.training.threads != "auto":
        return int(base.training.threads)
    begun = (Run(directory) for directory in directories)
    known = next((run.recipe.training.threads for run in begun if run.exists), "auto")
    return max(1, default_threads() // jobs) if known == "auto" or "training.threads" in over else int(known)


def rate_distortion_arrays(over: Over, members: Sequence[Member], comparison: Comparison) -> dict[str, Any]:
    """What the figure shows: a line along the values of the first key for each combination of the others."""
    rows = {row["run"]: row for row in comparison.rows}
    swept = next(iter(over))
    lines: dict[str, dict[str, list[Member]]] = {}
    for member in sorted(members, key=lambda member: _order(over[swept], member.point[swept])):
        others = label_values({key: value for key, value in member.point.items() if key != swept})
        value = label_values({swept: member.point[swept]}).rpartition(" = ")[2]
        lines.setdefault(others, {}).setdefault(value, []).append(member)
    return {
        "swept": word_of(swept),
        "series": [
            {
                "label": others,
                "points": [
                    {
                        "label": value,
                        "rate": np.array([rows[str(member.run.path)]["kl"] for member in seeds]),
                        "distortion": np.array([rows[str(member.run.path)]["reconstruction"] for member in seeds]),
                    }
                    for value, seeds in points.items()
                ],
            }
            for others, points in lines.items()
        ],
    }


def _order(choices: Sequence[Any], value: Any) -> Any:
    """Where a value stands: numbers by size, anything else as given."""
    are_numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
    return value if are_numbers else list(choices).index(value)
