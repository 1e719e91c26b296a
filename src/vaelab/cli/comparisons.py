"""``vaelab compare`` and ``sweep``: several runs."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaelab.api.short_forms import ShortForms
from vaelab.cli import options
from vaelab.cli.terminal import print_json, print_table, print_warning
from vaelab.system.messages import count_of
from vaelab.system.terminal import make_console, print_text

if TYPE_CHECKING:
    import vaelab


@options.app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of trained runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write into (default: a new one next to the first run).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the comparison at --out.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Compare runs: a page, a table, figures and images.

    Missing metrics are measured, including disentanglement scores for images with known factors. Metrics that take
    minutes (nll, dci …) are shown for runs that were evaluated with them. Runs that differ only in their seed form a
    group; udr measures how well they agree.

    Example:
      vaelab compare runs/mnist runs/mnist-beta=4 --out beta
    """
    import vaelab

    _show_comparison(vaelab.compare(runs, out=out, data=data, overwrite=overwrite), as_json)


@options.app.command()
@options.with_short_forms(ShortForms)
def sweep(
    recipe: options.Recipe,
    short: dict[str, Any],
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=V1,V2,…", help="Values of a recipe key; several keys form a grid."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds per setting: 0 … N − 1.")] = 1,
    overrides: options.Overrides = None,
    data: options.Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of all runs (default: runs/RECIPE-sweep-KEY).")
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Number of runs trained at a time; they share the threads.")
    ] = 1,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="CLUSTER",
            help="dask://HOST:PORT trains on a Dask cluster; slurm prints a job-array script.",
        ),
    ] = "",
    device: options.Device = "auto",
    track: options.Track = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a recipe with several values and seeds and compare the runs.

    The same command resumes a sweep. If some runs fail, the others are compared and the exit code is 1.

    Examples:
      vaelab sweep digits --over objective.beta=0.5,1,4 --seeds 3
      vaelab sweep mnist --over objective.beta=1,2,4 --on slurm > sweep.sh
    """
    import vaelab
    from vaelab.cli.progress import SweepView
    from vaelab.system.device import resolve_device

    grid, values = vaelab.parse_over(over or []), options.parse_overrides(overrides)
    where: dict[str, Any] = {"seeds": seeds, "set": values, "data": data, "out": out, **short}
    if not on:  # a cluster may have devices that this machine lacks
        resolve_device(device)
    if on == "slurm" and not dry_run:
        print(vaelab.slurm_script(recipe, grid, **where, device=device, track=track or ()), end="")
        return
    if dry_run:
        plan = vaelab.plan_sweep(recipe, grid, **where, jobs=jobs, on=on)
        _print_plan(plan, plan.estimate_seconds(device), as_json)
        return
    with closing(SweepView(to_stderr=as_json)) as view:
        done = vaelab.sweep(
            recipe,
            grid,
            **where,
            jobs=jobs,
            on=on,
            device=device,
            track=track or (),
            watch=view,
            progress=False,
        )
    if done.comparison is not None:
        _show_comparison(done.comparison, as_json)
    if done.failed:
        name, reason = next(iter(done.failed.items()))
        others = f" (and {len(done.failed) - 1} more)" if len(done.failed) > 1 else ""
        options.complain(f"{count_of(len(done.failed), 'run')} failed: {name}{others}: {reason}")
        raise typer.Exit(options.FAILED)


def _print_plan(plan: "vaelab.SweepPlan", seconds: float, as_json: bool) -> None:
    """Print the time that a sweep takes, every run and its state."""
    from vaelab.cli.progress import describe_sweep
    from vaelab.system.bars import describe_duration

    if as_json:
        runs = [{"run": str(m.run.path), **m.point, "seed": m.seed, "state": m.state} for m in plan.members]
        facts = {"out": str(plan.path), "jobs": plan.jobs, "threads": plan.threads, "seconds": seconds}
        print_json({**facts, "runs": runs})
        return
    print_text(describe_sweep(plan))
    print(f"training takes {describe_duration(seconds)} here" if seconds else "nothing is left to train")
    print_table(("run", "state"), [(member.run.name, member.state) for member in plan.members])


def _show_comparison(comparison: "vaelab.Comparison", as_json: bool) -> None:
    """Print table, warnings and files of a comparison."""
    for warning in comparison.warnings:
        print_warning(warning)
    if as_json:
        files = {name: str(path) for name, path in comparison.paths.items()}
        facts = {"runs": comparison.rows, "remarks": comparison.remarks, "warnings": comparison.warnings}
        print_json({**facts, "files": files})
        return
    print_comparison(comparison)
    for path in comparison.paths.values():
        print(path)


def print_comparison(comparison: "vaelab.Comparison") -> None:
    """Print a row for each quantity and a column for each recipe; a narrow terminal gets several tables."""
    from vaelab.exporters.comparison_report import format_cell

    groups, quantities = comparison.groups, comparison.quantities
    has_seeds = any(len(rows) > 1 for rows in groups.values())
    columns = []
    for label, rows in groups.items():
        columns.append([f"{label} ({_count_members(rows)})" if has_seeds else label])
        for q in quantities:
            error = rows[0].get(f"{q.key}_standard_error")
            columns[-1].append(format_cell([row[q.key] for row in rows], error, q.digits))
    titles = ["", *(f"{q.title}, {q.unit}" if q.unit else q.title for q in quantities)]
    known = [0, *(i for i in range(1, len(titles)) if any(column[i] != "–" for column in columns))]
    console = make_console()
    room = console.width - max(map(len, titles)) if console.is_terminal else sys.maxsize
    while columns:
        fitting, width = 0, 0
        while fitting < len(columns) and (not fitting or width + max(map(len, columns[fitting])) + 2 <= room):
            width += max(map(len, columns[fitting])) + 2
            fitting += 1
        shown, columns = columns[:fitting], columns[fitting:]
        headers, *lines = [(titles[i], *(column[i] for column in shown)) for i in known]
        print_table(headers, lines)
    over = "the seeds of a recipe" if has_seeds else "images, or over samples for the parts of the KL"
    remarks = "".join(f"; {remark}" for remark in comparison.remarks)
    print_text(f"nats per held-out image; ±: standard error over {over}{remarks}")


def _count_members(rows: Sequence[Mapping[str, Any]]) -> str:
    is_repeated = len({row["seed"] for row in rows}) < len(rows)
    return count_of(len(rows), "run" if is_repeated else "seed")
