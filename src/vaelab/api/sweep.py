"""``vaelab sweep``: train a recipe at every value of some keys and with several seeds, and compare the runs."""

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from vaelab import recipe as recipes
from vaelab.api.cluster import DaskWorkers, parse_address, write_slurm_script
from vaelab.api.compare import Comparison, compare, draw, write_page
from vaelab.api.estimate import measure_step
from vaelab.api.events import Event, warn_only
from vaelab.api.plan import format_value, plan, run_directory, run_name
from vaelab.api.run_images import load_images
from vaelab.api.short_forms import ShortForms, merge_short_forms
from vaelab.api.training_bar import showing_bar
from vaelab.api.workers import CommonArguments, Job, Processes, ThisProcess, Workers, train_all
from vaelab.build import build
from vaelab.evaluation.comparability import label_values, short_name
from vaelab.figures import rate_distortion
from vaelab.recipe import Recipe, ResolvedRecipe
from vaelab.run import OtherRecipe, Run
from vaelab.system.arguments import check_names, check_whole, describe
from vaelab.system.device import resolve_device
from vaelab.system.errors import RecipeError, UsageError
from vaelab.system.files import NAME_BYTES, fit_name, write_atomic
from vaelab.system.machine import default_threads
from vaelab.system.messages import warn

PICTURE = "rate-distortion.png"
PIECE = r"""((?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,\["'])*)(?:,|$)"""
"""Text up to a comma that is neither in a list nor in quotes."""

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
    recipe: ResolvedRecipe


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep."""

    path: Path
    recipe: Recipe
    over: dict[str, list[Any]]
    members: list[Member]
    jobs: int
    threads: int
    """Threads of each run: the recipe's, else those of the sweep's first start, else processors divided by jobs."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """The overrides of all runs, as they were given."""

    def estimate_seconds(self, device: str = "auto") -> float:
        """Return the seconds that the steps that are left take on a device, from a few steps of one of the runs."""
        left = [member for member in self.members if not member.run.is_trained]
        if not left:
            return 0.0
        num_steps = sum(member.recipe.num_steps - member.run.checkpoints.newest_step for member in left)
        return num_steps * measure_step(left[0].recipe, resolve_device(device)) / min(self.jobs, len(left))


@dataclass(frozen=True)
class MemberEnded:
    """Event: a run of a sweep is done, was done before, or failed with a reason."""

    member: Member
    position: int
    """Number of runs that ended, including this one."""
    of: int
    state: str
    """"trained", "done" or "failed"."""
    reason: str = ""


SweepEvent = SweepPlan | MemberEnded | Event
Watch = Callable[[SweepEvent], None]


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep."""

    path: Path
    comparison: Comparison | None
    """Comparison of the runs that did not fail; None if all failed."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a run → reason."""


def _warn(event: SweepEvent) -> None:
    """Issue a VaelabWarning for warnings during training and for runs that fail."""
    warn_only(event)
    if isinstance(event, MemberEnded) and event.state == "failed":
        warn(f"{event.member.run.path}: {event.reason}")


def sweep(
    name: str | Path,
    over: Over,
    *,
    seeds: int = 1,
    set: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    on: str = "",
    device: str = "auto",
    track: Sequence[str] = (),
    watch: Watch = _warn,
    progress: bool = True,
    **short: Unpack[ShortForms],
) -> Sweep:
    """Train a recipe at every combination of the values of ``over`` with seeds 0 … ``seeds`` − 1, and compare the runs.

    Each run has a directory OUT/KEY=VALUE-seed=K. Finished runs are kept, interrupted ones are resumed, and a run that
    fails does not stop the others. The comparison goes to OUT/report.html, comparison.json, .csv and .png,
    side-by-side.png and rate-distortion.png. ``short`` and ``track``: as in ``train``. ``jobs``: runs trained at a
    time, in processes of their own if there are several. ``on``: "dask://HOST:PORT" trains on the workers of a Dask
    cluster, which must see the runs and the data under the same paths.

    Raises RecipeError or UsageError before anything starts. If it is asked to stop, all runs save and Interrupted is
    raised.
    """
    if on:
        parse_address(on)
    planned = plan_sweep(name, over, seeds=seeds, set=set, data=data, out=out, jobs=jobs, on=on, **short)
    common = CommonArguments(str(name), data, device, check_names(track, "track"))
    with showing_bar(watch, is_wanted=progress) as shown:
        workers: Workers = (
            DaskWorkers(on, common) if on else Processes(common) if planned.jobs > 1 else ThisProcess(common, shown)
        )
        return _run_sweep(planned, common, workers, shown)


def _command(planned: SweepPlan, name: str | Path, data: str | Path | None) -> str:
    """Return the command line that is equivalent to the sweep."""
    words = ["vaelab", "sweep", str(name)]
    for key, values in planned.over.items():
        words += ["--over", f"{key}={','.join(map(format_value, values))}"]
    words += ["--seeds", str(len({member.seed for member in planned.members}))]
    for key, value in planned.given.items():
        words += ["--set", f"{key}={format_value(value)}"]
    words += ["--data", str(data)] if data else []
    return shlex.join(words)


def slurm_script(
    name: str | Path,
    over: Over,
    *,
    seeds: int = 1,
    set: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    track: Sequence[str] = (),
    **short: Unpack[ShortForms],
) -> str:
    """Return a SLURM job-array script that trains the unfinished runs of ``sweep``.

    The arguments are those of ``sweep``. Nothing is submitted. Raises InputError if all runs are finished.
    """
    planned = plan_sweep(name, over, seeds=seeds, set=set, data=data, out=out, on="slurm", **short)
    left = [Job(member.run, member.overrides) for member in planned.members if not member.run.is_finished]
    return write_slurm_script(
        planned.path.name, left, CommonArguments(str(name), data, device, check_names(track, "track")), planned.threads
    )


def _run_sweep(planned: SweepPlan, common: CommonArguments, workers: Workers, watch: Watch) -> Sweep:
    """Train the runs of a sweep and compare them."""
    watch(planned)
    name, data = common.name, common.data
    if planned.jobs > 1 and any(member.state == "new" for member in planned.members):
        _load_once(planned, name, data)
    failed: dict[str, str] = {}
    members = {member.run.path: member for member in planned.members}
    to_train = [Job(member.run, member.overrides) for member in planned.members]
    ends = train_all(to_train, workers, planned.jobs, watch)
    with closing(ends):  # no process outlives this one
        for position, (job, state, reason) in enumerate(ends, 1):
            if state == "failed":
                failed[job.run.name] = reason
            watch(MemberEnded(members[job.run.path], position, len(members), state, reason))
    done = [member for member in planned.members if member.run.name not in failed]
    if not done:
        return Sweep(planned.path, None, failed)
    comparison = compare([member.run.path for member in done], out=planned.path, data=data, overwrite=True)
    arrays = rate_distortion_arrays(planned.over, done, comparison)
    write_atomic(planned.path / PICTURE, draw(rate_distortion, arrays))
    title = f"Sweep of {planned.recipe.name} over {' and '.join(map(short_name, planned.over))}"
    write_page(comparison, planned.path, title, [_command(planned, name, data)])
    paths = {**comparison.paths, PICTURE: planned.path / PICTURE}
    return Sweep(planned.path, replace(comparison, paths=paths), failed)


def parse_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ``objective.beta=1,2,5`` to {"objective.beta": [1, 2, 5]}; values that are not TOML are strings."""
    over: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        pieces = re.findall(PIECE, values)[:-1]  # the last is empty, at the end of the text
        found = [recipes.parse_override(f"value={piece}")[1] for piece in pieces]
        if not key or not found or "" in found:
            example = "write it as section.key=value,value, such as --over objective.beta=1,2,5"
            raise RecipeError(f"--over {text!r}: {example}", subject="over", value=text)
        if key in over:
            message = f"--over {key} is given twice; give all its values at once, separated by commas"
            raise RecipeError(message, subject=key, value=text)
        over[key] = found
    return over


def _load_once(planned: SweepPlan, name: str | Path, data: str | Path | None) -> None:
    """Download and cache all data once, instead of in every process."""
    loaded: list[dict[str, Any]] = []
    for member in planned.members:
        recipe = recipes.load(name, member.overrides, data)
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
    on: str = "",
    **short: Unpack[ShortForms],
) -> SweepPlan:
    """Return what ``sweep`` with these arguments would do, after checking all arguments.

    With ``on``, each run uses one thread unless the recipe sets ``training.threads``, and the cluster decides how many
    runs are trained at a time.
    """
    given = merge_short_forms(set, short)
    if not isinstance(over, Mapping):
        raise TypeError(f"over must be a mapping of keys to lists; got {describe(over)}")
    values = {key: _check_values(key, choices) for key, choices in over.items()}
    seeds, jobs = check_whole(seeds, "seeds", 1), check_whole(jobs, "jobs", 1)
    _check_keys(values, given)
    if on and jobs > 1:
        raise UsageError("--jobs is for runs on this machine; with --on, the cluster decides", subject="jobs")
    base = recipes.load(name, given, data)
    path = Path(out) if out else run_directory(f"{base.name}-sweep-{'-'.join(values)}", given)
    points = [dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())]
    runs = [(Run.at(path / _directory(point, seed)), point, seed) for point in points for seed in range(seeds)]
    if len({run.path for run, _, _ in runs}) < len(runs):
        raise UsageError("two values of --over make one directory; leave one of them out", subject="over")
    threads = _choose_threads(base, values, [run for run, _, _ in runs], 1 if on else default_threads() // jobs)
    members, sizes = [], {}
    for run, point, seed in runs:
        overrides = {**given, "training.threads": threads, **point, "training.seed": seed}
        recipe = recipes.load(name, overrides, data)
        _check_run(run, recipe)
        key = str(sorted(recipe.data.items()))
        if key not in sizes:
            facts = plan(str(name), overrides, data=data, run=run.path)
            sizes[key] = facts["image_shape"], facts["images"]["train"]
        resolved = recipe.resolve(*sizes[key])
        with torch.device("meta"):
            build(resolved)
        state = "done" if run.is_finished else "resumes" if run.exists else "new"
        members.append(Member(run, point, seed, overrides, state, resolved))
    return SweepPlan(path, base, values, members, len(members) if on else jobs, threads, given)


def _check_values(key: str, choices: object) -> list[Any]:
    """Return the values of one key; raise TypeError if they are not a list, UsageError if one is given twice."""
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        raise TypeError(f"over: the values of {key} must be a list; got {describe(choices)}")
    values = [value.item() if isinstance(value, np.generic) else value for value in choices]
    if not values:
        raise UsageError(f"--over {key}: no values", subject=key)
    for i, value in enumerate(values):
        if value in values[:i]:
            raise UsageError(f"--over {key}: {recipes.toml_value(value)} is given twice", subject=key, value=value)
    return values


def _check_keys(over: Over, given: Mapping[str, Any]) -> None:
    """Raise UsageError if no key is swept, or one in two ways."""
    if not over:
        raise UsageError("nothing to sweep over: give --over section.key=value,value", subject="over")
    for option, keys in (("--over", over), ("--set", given)):
        if "training.seed" in keys:
            message = f"{option} training.seed: in a sweep, seeds are given by --seeds N, which means 0 … N − 1"
            raise UsageError(message, subject="training.seed")
    if twice := [key for key in over if key in given]:
        raise UsageError(f"{twice[0]} is in --set and in --over; give it once", subject=twice[0])


def _check_run(run: Run, recipe: Recipe) -> None:
    """Raise OtherRecipe or FileExistsError if a directory of the sweep holds something else."""
    try:
        if run.exists:
            run.check_same(recipe)
        run.check_free()
    except (OtherRecipe, FileExistsError) as error:
        error.args = (str(error).replace("--run", "--out"),)
        raise


def _directory(point: Mapping[str, Any], seed: int) -> str:
    words, suffix = run_name("", point).removeprefix("-"), f"-seed={seed}"
    return fit_name(words, NAME_BYTES - len(suffix)) + suffix


def _choose_threads(base: Recipe, over: Over, runs: Sequence[Run], share: int) -> int:
    """Return the number of threads of all runs; a sweep that is resumed keeps it, because results depend on it."""
    begun = () if "training.threads" in over else (run.recipe for run in runs if run.exists)
    known = (recipe.training.threads for recipe in (base, *begun))
    return next((threads for threads in known if threads != "auto"), max(1, share))


# -- the figure -------------------------------------------------------------------------------------------------------


def rate_distortion_arrays(over: Over, members: Sequence[Member], comparison: Comparison) -> dict[str, Any]:
    """Return the arrays of the figure: a line along the values of the first key for each combination of the others."""
    rows = {row["run"]: row for row in comparison.rows}
    swept = next(iter(over))
    lines: dict[str, dict[str, list[Member]]] = {}
    for member in sorted(members, key=lambda member: _order(over[swept], member.point[swept])):
        others = label_values({key: value for key, value in member.point.items() if key != swept})
        value = label_values({swept: member.point[swept]}).rpartition(" = ")[2]
        lines.setdefault(others, {}).setdefault(value, []).append(member)
    return {
        "swept": short_name(swept),
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
    """Return the sort key of a value: numbers by size, anything else as given."""
    are_numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
    return value if are_numbers else list(choices).index(value)
