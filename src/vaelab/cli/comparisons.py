"""``vaelab compare``, ``sweep``: several runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaelab.cli.options import FAILED, DataOption, JsonOption, app, complain, overrides_of
from vaelab.cli.terminal import SweepView, print_comparison, print_json, print_sweep_plan, print_warning, show_progress

if TYPE_CHECKING:
    import vaelab


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of trained runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write into (default: a free name here, compare-…).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a comparison that lies at --out.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set runs side by side: a table, a figure, and what each makes of the same images.

    Measures what is not measured yet; of images with known factors also the scores of disentanglement. Shows what takes
    minutes (nll, dci …) of runs that were evaluated by it. Seeds of one recipe are taken together, and udr says how far
    they agree.

    Example: vaelab compare runs/mnist runs/mnist-objective.beta=4 --out beta
    """
    import vaelab

    show_progress()
    found = vaelab.compare(runs, out=out, data=data, overwrite=overwrite)
    show_comparison(found, as_json)


def show_comparison(found: "vaelab.Comparison", as_json: bool) -> None:
    """Table, warnings and files of a comparison."""
    for warning in found.warnings:
        print_warning(warning)
    if as_json:
        files = {name: str(path) for name, path in found.paths.items()}
        print_json({"runs": found.rows, "remarks": found.remarks, "warnings": found.warnings, "files": files})
        return
    print_comparison(found)
    for path in found.paths.values():
        print(path)


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset (see vaelab recipes) or a .toml file.")],
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=V1,V2,…", help="Values of a key of the recipe; several make a grid."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of each setting: 0 … N − 1.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe in all runs."),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of all runs (default: runs/RECIPE-sweep-KEY).")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at a time, on so many parts of the threads.")] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe at several values and with several seeds, compare the runs, and draw rate and distortion.

    The same command again goes on where it stopped. Exits 1 if a run failed; the others are compared.

    Example: vaelab sweep digits --over objective.beta=0.5,1,4 --seeds 3
    """
    import vaelab
    from vaelab.system.device import resolve_device

    grid = vaelab.parse_over(over or [])
    values = overrides_of(overrides)
    resolve_device(device)
    if dry_run:
        print_sweep_plan(
            vaelab.plan_sweep(recipe, grid, seeds=seeds, set=values, data=data, out=out, jobs=jobs), as_json
        )
        return
    show_progress()
    view = SweepView(to_stderr=as_json)
    try:
        done = vaelab.sweep(
            recipe, grid, seeds=seeds, set=values, data=data, out=out, jobs=jobs, device=device, watch=view
        )
    finally:
        view.close()
    if done.comparison is not None:
        show_comparison(done.comparison, as_json)
    if done.failed:
        name, reason = next(iter(done.failed.items()))
        others = f" (and {len(done.failed) - 1} more)" if len(done.failed) > 1 else ""
        complain(f"{len(done.failed)} of the runs failed: {name}{others}: {reason}")
        raise typer.Exit(FAILED)
