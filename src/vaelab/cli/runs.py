"""``vaelab recipes``, ``train``."""

from pathlib import Path
from typing import Annotated

import typer

from vaelab.cli.options import (
    DataOption,
    DeviceOption,
    JsonOption,
    OverridesOption,
    StrictOption,
    app,
    overrides_of,
    shape_of,
)
from vaelab.cli.terminal import TrainingView, print_json, print_plan, print_warnings, show_progress, table


@app.command("recipes")
def recipes_verb(as_json: JsonOption = False) -> None:
    """List the presets.

    Example: vaelab recipes --json
    """
    import vaelab

    rows = vaelab.list_recipes()
    if as_json:
        print_json(rows)
        return
    table(
        ("recipe", "data", "image", "network", "latents", "objective", "parameters", "epochs", "published"),
        [
            (
                row["name"],
                row["data"],
                shape_of(row["image_shape"]),
                row["network"],
                str(row["latent_dim"]),
                row["objective"],
                "as suits" if row["parameters"] is None else f"{row['parameters']:,}",
                str(row["epochs"]),
                ", ".join(
                    f"{k.replace('_', ' ')} {v:g}" for k, v in row["expected"].items() if k.startswith("loss_last")
                ),
            )
            for row in rows
        ],
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset (see vaelab recipes) or a .toml file.")],
    overrides: OverridesOption = None,
    data: DataOption = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run's directory (default: runs/RECIPE and the overrides).")
    ] = None,
    strict: StrictOption = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Short for --set training.seed=N.")] = None,
    device: DeviceOption = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe, draw the figures, write the report; the same command again goes on where it stopped.

    Examples: vaelab train digits · vaelab train mnist --data ~/data --set objective.beta=4 · torchrun --standalone
    --nproc-per-node 2 -m -- vaelab train mnist
    """
    import vaelab
    from vaelab.system.device import resolve_device
    from vaelab.system.distributed import launched_group

    values = overrides_of(overrides, seed, strict)
    if not launched_group().is_main:  # of several processes one speaks
        if not dry_run:
            vaelab.train(recipe, values, data=data, run=run, device=device)
        return
    show_progress()
    if dry_run:
        resolve_device(device)
        print_plan(vaelab.plan(recipe, values, data=data, run=run), as_json)
        return
    view = TrainingView()
    try:
        done = vaelab.train(
            recipe, values, data=data, run=run, device=device, watch=print_warnings if as_json else view
        )
    finally:
        view.close()
    if as_json:
        print_json({"run": str(done.path), "measured": done.measured(), "evaluation": done.evaluation})
