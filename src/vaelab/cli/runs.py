"""``vaelab recipes`` and ``train``."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from vaelab.api.short_forms import ShortFormsAndSeed
from vaelab.cli import options
from vaelab.cli.terminal import print_json, print_table
from vaelab.system.messages import count_of


@options.app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this preset.", autocompletion=options.complete_recipe),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors of .toml files.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List the presets, or print one as a starting point for your own recipe.

    Examples:
      vaelab recipes
      vaelab recipes mnist > mine.toml
      vaelab recipes --schema > recipe.schema.json
    """
    import vaelab

    if schema:
        print_json(vaelab.recipe_schema())
        return
    if name is not None:
        print(vaelab.read_recipe(name), end="")
        return
    rows = vaelab.list_recipes()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("recipe", "image", "latents", "objective", "weights", "length", "target loss"),
        [
            (
                row["name"],
                options.format_shape(row["image_shape"]),
                str(row["latent_dim"]),
                row["objective"],
                _round_count(row["parameters"]),
                _describe_length(row),
                f"{row['expected']['loss_at_end']:g}" if "loss_at_end" in row["expected"] else "",
            )
            for row in rows
        ],
    )


def _round_count(count: int | None) -> str:
    """Return a number of parameters to three digits, such as 2.65 M; "auto" if it is not fixed yet."""
    if count is None:
        return "auto"
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count / 1e3:.3g} k"


def _describe_length(row: Mapping[str, Any]) -> str:
    """Return the steps or epochs of a recipe with their noun."""
    if row["steps"]:
        return count_of(row["steps"], "step")
    return row["epochs"] if isinstance(row["epochs"], str) else count_of(row["epochs"], "epoch")


@options.app.command()
@options.with_short_forms(ShortFormsAndSeed)
def train(
    recipe: options.Recipe,
    short: dict[str, Any],
    overrides: options.Overrides = None,
    data: options.Data = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Directory of the run (default: runs/RECIPE with the overrides).")
    ] = None,
    strict: options.Strict = False,
    device: options.Device = "auto",
    track: options.Track = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Train an existing run of the same recipe to the new --steps or --epochs.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Open a page with curves and images that is updated during training.")
    ] = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a model, draw its figures and write its report.

    The same command resumes an interrupted run. Ctrl-C saves and stops; pressed twice, it finishes the run at the
    current step.

    Examples:
      vaelab train digits
      vaelab train mnist --beta 4 --epochs 5
      vaelab train folder --data ~/pictures --set data.size=64
      torchrun --standalone --nproc-per-node 2 -m -- vaelab train mnist
    """
    import vaelab
    from vaelab.cli.explore import serve_live
    from vaelab.cli.progress import TrainingView, print_event_warning
    from vaelab.system.distributed import launched_group

    values = options.parse_overrides(overrides, strict=strict)
    if not launched_group().is_main:
        if not dry_run:
            vaelab.train(recipe, values, data=data, run=run, device=device, progress=False, extend=extend, **short)
    elif dry_run:
        plan = vaelab.plan(recipe, values, data=data, run=run, device=device, timed=True, extend=extend, **short)
        _print_plan(plan, as_json)
    else:
        with closing(TrainingView()) as view, serve_live() as open_page:
            show = print_event_warning if as_json else view

            def watch(event: vaelab.Event) -> None:
                show(event)
                if live and isinstance(event, vaelab.Started):
                    open_page(event.run.path)

            trained = vaelab.train(
                recipe,
                values,
                data=data,
                run=run,
                device=device,
                track=track or (),
                watch=watch,
                progress=False,
                extend=extend,
                **short,
            )
        if as_json:
            print_json({"run": str(trained.path), "measured": trained.measured(), "evaluation": trained.evaluation})


@options.app.command()
def finish(
    run: options.Run, data: options.Data = None, device: options.Device = "auto", as_json: options.Json = False
) -> None:
    """Finish a run at its current step.

    If another process is training the run, it is asked to finish. A stopped run is completed from its newest
    checkpoint, with evaluation, figures and report as at the end of training.

    Example:
      vaelab finish runs/mnist
    """
    import vaelab
    from vaelab.cli.progress import TrainingView, print_event_warning

    with closing(TrainingView()) as view:
        watch = print_event_warning if as_json else view
        finished = vaelab.finish(run, data=data, device=device, watch=watch, progress=False)
    if as_json:
        steps = len(finished.history["step"])
        print_json({"run": str(finished.path), "steps": steps, "measured": finished.measured()})


def _print_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    """Print what would be done in a few lines, as comments, then the resolved recipe."""
    recipe, run = plan["recipe"], plan["run"]
    if as_json:
        facts = {key: value for key, value in plan.items() if key not in ("recipe", "run")}
        print_json({"run": str(run.path), "recipe": recipe.sections(), **facts})
        return
    for line in _describe_plan(plan):
        print(f"# {line}")
    print(f"\n{recipe.to_toml()}", end="")


def _describe_plan(plan: Mapping[str, Any]) -> list[str]:
    """Describe what training would do, in four lines, and β in the conventions of other papers."""
    from vaelab.system.bars import describe_duration

    recipe, parameters, shape = plan["recipe"], plan["parameters"], options.format_shape(plan["image_shape"])
    images = " + ".join(
        f"{count:,} {split.removeprefix(f'{count} images ')}" for split, count in plan["images"].items()
    )
    time = f"{describe_duration(plan['seconds'])} on {plan['device']}, then metrics and figures"
    lines = [
        f"run: {plan['run'].path} ({plan['state']})",
        f"images: {images}, {shape}; {count_of(plan['steps'], 'step')} of {recipe.training.batch_size}",
        f"model: {sum(parameters.values()):,} parameters (encoder {parameters['encoder']:,}, "
        f"decoder {parameters['decoder']:,}), {count_of(recipe.latent_dim, 'latent')}",
        f"time: {time if plan['seconds'] else 'nothing is left to train'}",
    ]
    if plan["equivalents"]:
        equivalents = ", ".join(f"{name} {value:.4g}" for name, value in plan["equivalents"].items())
        lines.append(f"conventions of other papers: {equivalents}")
    return lines
