"""The command line: parses, calls the lab, explains errors. It and view.py are the only places that print."""

import errno
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from vaelab.view import (
    SweepView,
    TrainingView,
    print_comparison,
    print_json,
    print_note,
    print_plan,
    print_sweep_plan,
    print_warnings,
    show_progress,
    table,
)

if TYPE_CHECKING:
    from vaelab import lab

DONE, FAILED, INTERRUPTED = 0, 1, 130
ADVICE = {
    errno.ENOSPC: "free some space, then the same command begins again or goes on",
    errno.EROFS: "choose another place with --run or --out",
    errno.EACCES: "choose another place with --run or --out",
}
"""What to do about what the system refuses."""

app = typer.Typer(
    help="Variational autoencoders of images: trained, measured, looked at, one command for each step.",
    epilog="Start with: vaelab train digits. Every verb has its own --help with examples. "
    "--debug shows a traceback where something fails.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Data sets: what there is, download, check.", no_args_is_help=True)
app.add_typer(data_app, name="data")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, such as runs/digits.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder with the images (default: $VAELAB_DATA, then the cache).")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where to write (default: a free name here).")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the file that lies at --out.")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; as often as you like."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse data with pictures that cannot be read.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _show_version(wanted: bool) -> bool:
    if wanted:
        print(version("vaelab"))
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails; any verb.")] = False,
) -> None:
    """Options of the whole; ``--debug`` is read by ``main`` wherever it stands."""


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (saved, resumable)."""
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:  # what typer makes of a Ctrl-C outside of training
            _complain("interrupted; the same command begins again or goes on")
    except Exception as error:
        code = _explain(error, debug)
    sys.stdout.flush()
    raise SystemExit(code)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """A polite kill is a Ctrl-C."""
    raise KeyboardInterrupt


def _explain(error: Exception, debug: bool) -> int:
    """One clear line for an error, and the exit code that goes with it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # the parser's own errors, of which typer exports no class
        if error.format_message():  # empty where the help has just been shown
            _complain(f"{error.format_message()} (see vaelab --help)")
    elif isinstance(error, OSError) and error.errno in ADVICE:
        _complain(f"{error.filename or 'this disk'}: {error.strerror}; {ADVICE[error.errno]}")
    elif isinstance(error, ValueError | OSError | RuntimeError) or hasattr(error, "exit_code"):
        _complain(str(error) or type(error).__name__)
    else:
        _complain(f"{type(error).__name__}: {error} (for a traceback: the same command with --debug)")
    return int(getattr(error, "exit_code", FAILED))


def _complain(text: str) -> None:
    print(f"vaelab: {' '.join(text.split())}", file=sys.stderr)


# -- verbs ------------------------------------------------------------------------------------------------------------


@app.command("recipes")
def recipes_verb(as_json: JsonOption = False) -> None:
    """List the presets.

    Example: vaelab recipes --json
    """
    from vaelab import lab

    rows = lab.list_recipes()
    if as_json:
        print_json(rows)
        return
    table(
        ("recipe", "data", "image", "network", "latents", "objective", "parameters", "epochs", "published"),
        [
            (
                row["name"],
                row["data"],
                _shape(row["image_shape"]),
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


def _shape(shape: list[int] | None) -> str:
    """Height, width and channels; of pictures that are a person's own, that."""
    return "×".join(str(side) for side in (*shape[1:], shape[0])) if shape else "yours"


@data_app.command("list")
def data_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the data sets, and where their files lie.

    Example: vaelab data list --data /data
    """
    from vaelab import lab

    rows = lab.list_data(data)
    if as_json:
        print_json(rows)
        return
    table(
        ("data set", "images", "size", "licence", "place"),
        [
            (
                row["name"],
                " + ".join(f"{count:,} {split}" for split, count in row["images"].items() if count) or "yours",
                _shape(row["shape"]),
                row["licence"],
                row["place"],
            )
            for row in rows
        ],
    )


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, such as mnist.")],
    to: Annotated[Path | None, typer.Option("--to", help="Folder to put it into (default: the cache).")] = None,
) -> None:
    """Download a data set; files that are there already stay.

    Example: vaelab data get mnist --to data
    """
    from vaelab import lab

    show_progress()
    if lab.data_terms(name):
        print_note(lab.data_terms(name))
    folder = lab.get_data(name, to)
    print(f"{name}: {folder}" if folder else f"{name} comes with vaelab; nothing to download")


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder with the files of a data set.")],
    as_json: JsonOption = False,
) -> None:
    """Find files of a data set that are broken, truncated or not what they should be.

    Exits 1 if there are any. Example: vaelab data check ~/data/mnist
    """
    from vaelab import lab

    results = lab.check_data(path)
    if as_json:
        print_json(
            [
                {"data": name, "folder": folder, "files": [{"file": f, "verdict": v} for f, v in rows]}
                for name, folder, rows in results
            ]
        )
    else:
        for name, folder, rows in results:
            print(f"{name} in {folder}:")
            for file, verdict in rows:
                print(f"  {file}: {verdict.removeprefix(f'{file}: ')}")
    if any(not verdict.startswith("ok") for _, _, rows in results for _, verdict in rows):
        raise typer.Exit(FAILED)


@data_app.command("pack")
def data_pack(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or .zip of pictures, or CelebA's folder.")],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="The data set (default: found out).")] = None,
    overrides: OverridesOption = None,
    strict: StrictOption = False,
) -> None:
    """Decode pictures once, into the cache, as a training would do at its start.

    Example: vaelab data pack ~/pictures --set data.size=128
    """
    from vaelab import lab

    show_progress()
    images = lab.pack_data(path, name, _overrides(overrides, strict=strict))
    for part, split in ((images.train, "train"), (images.valid, images.valid_split)):
        channels, height, width = part.image_shape
        print(f"{split}: {len(part):,} images, {height}×{width} {'grey' if channels == 1 else 'RGB'}")
    for note in images.train.notes:
        print(note)


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
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe, draw the figures, write the report; the same command again goes on where it stopped.

    Examples: vaelab train digits · vaelab train mnist --data ~/data --set objective.beta=4
    """
    from vaelab import lab
    from vaelab.runtime import resolve_device

    values = _overrides(overrides, seed, strict)
    show_progress()
    if dry_run:
        resolve_device(device)
        print_plan(lab.plan(recipe, values, data=data, run=run), as_json)
        return
    view = TrainingView()
    try:
        done = lab.train(recipe, values, data=data, run=run, device=device, watch=print_warnings if as_json else view)
    finally:
        view.close()
    if as_json:
        print_json({"run": str(done.path), "measured": done.measured(), "evaluation": done.evaluation})


@app.command()
def figures(
    run: RunArgument,
    only: Annotated[str | None, typer.Option("--only", help="Names, separated by commas (default: all).")] = None,
    data: DataOption = None,
) -> None:
    """Draw the figures of a run again.

    Example: vaelab figures runs/mnist --only losses,latent
    """
    from vaelab import lab

    show_progress()
    for path in lab.figures(run, data=data, names=_names(only)):
        print(path)


def _overrides(texts: list[str] | None, seed: int | None = None, strict: bool = False) -> dict[str, Any]:
    """Values by dotted key, from ``--set`` and the options that are short for one."""
    from vaelab.recipe import parse_override

    values = dict(parse_override(text) for text in texts or [])
    if seed is not None:
        values["training.seed"] = seed
    if strict:
        values["data.strict"] = True
    return values


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run again: one page, figures and all, to look at or to send.

    Example: vaelab report runs/mnist
    """
    from vaelab import lab

    print(lab.report(run))


@app.command()
def evaluate(
    run: RunArgument,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Names, separated by commas.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its held-out images: evaluation.json, a table, the report.

    Example: vaelab evaluate runs/mnist --json
    """
    from vaelab import lab

    show_progress()
    results = lab.evaluate(run, data=data, metrics=_names(metrics))
    if as_json:
        print_json(results)
        return
    rows = [
        (metric, name.replace("_", " "), f"{value:.4f}")
        for metric, entry in results.items()
        for name, value in entry.items()
        if isinstance(value, int | float)
    ]
    table(("metric", "number", "value"), rows)
    print("(nats per image, but for counts, shares and scores; PSNR in dB)")
    for metric, entry in results.items():
        protocol = {**entry["protocol"], **entry["measured_on"]}
        print(f"{metric}: {', '.join(f'{k} {v}' for k, v in protocol.items() if not k.endswith('sha256'))}")


@app.command()
def sample(
    run: RunArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 25,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw images from the prior, onto one .png or into a folder.

    Examples: vaelab sample runs/mnist -n 100 · vaelab sample runs/mnist -n 1000 --out samples/
    """
    from vaelab import lab

    print(lab.sample(run, count=count, seed=seed, out=out, overwrite=overwrite))


@app.command()
def reconstruct(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A picture, a folder, .npy or .npz (default: the held-out images)."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="How many images at the most (default: 16 on a sheet, else all)."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show images above their reconstructions (.png), or write the reconstructions into a folder.

    Example: vaelab reconstruct runs/mnist my-digits/ --out rebuilt.png
    """
    from vaelab import lab

    show_progress()
    print(lab.reconstruct(run, images, count=count, data=data, out=out, overwrite=overwrite))


@app.command()
def encode(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A picture, a folder, .npy or .npz (default: the held-out images)."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the posterior means and log-variances of images to .parquet, .csv or .npz.

    Example: vaelab encode runs/mnist my-digits/ --out codes.csv
    """
    from vaelab import lab

    show_progress()
    print(lab.encode(run, images, data=data, out=out, overwrite=overwrite))


@app.command()
def edit(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="A picture, a folder, .npy or .npz (default: some held-out images)."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME", help="An attribute or a class; as often as you like."),
    ] = None,
    by: Annotated[
        list[float] | None,
        typer.Option(
            "--by", metavar="STEPS", help="How far: 1 leads from without to with (default: 2); once, or each."
        ),
    ] = None,
    method: Annotated[
        Literal["means", "probe"],
        typer.Option("--method", help="means: from the mean without to the mean with; probe: along a probe's normal."),
    ] = "means",
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Move images along the directions of attributes or classes: originals, reconstructions and edits on a .png.

    Examples: vaelab edit runs/celeba me.jpg --attribute Smiling --by 2 · vaelab edit runs/mnist --attribute 7
    """
    from vaelab import lab

    if not attribute:
        raise typer.BadParameter("name at least one, such as --attribute Smiling", param_hint="--attribute")
    show_progress()
    print(
        lab.edit(run, images, attribute=attribute, by=by or 2.0, method=method, data=data, out=out, overwrite=overwrite)
    )


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

    Measures what is not measured yet. Seeds of one recipe are taken together.

    Example: vaelab compare runs/mnist runs/mnist-objective.beta=4 --out beta
    """
    from vaelab import lab

    show_progress()
    found = lab.compare(runs, out=out, data=data, overwrite=overwrite)
    _show_comparison(found, as_json)


def _show_comparison(found: "lab.Comparison", as_json: bool) -> None:
    """Table, warnings and files of a comparison."""
    for warning in found.warnings:
        print(f"vaelab: warning: {warning}", file=sys.stderr)
    if as_json:
        files = {name: str(path) for name, path in found.paths.items()}
        print_json({"runs": found.rows, "warnings": found.warnings, "files": files})
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
    from vaelab import lab
    from vaelab.recipe import parse_override
    from vaelab.runtime import resolve_device

    grid = lab.parse_over(over or [])
    values = dict(parse_override(text) for text in overrides or [])
    resolve_device(device)
    if dry_run:
        print_sweep_plan(lab.plan_sweep(recipe, grid, seeds=seeds, set=values, data=data, out=out, jobs=jobs), as_json)
        return
    show_progress()
    view = SweepView(to_stderr=as_json)
    try:
        done = lab.sweep(
            recipe, grid, seeds=seeds, set=values, data=data, out=out, jobs=jobs, device=device, watch=view
        )
    finally:
        view.close()
    if done.comparison is not None:
        _show_comparison(done.comparison, as_json)
    if done.failed:
        name, reason = next(iter(done.failed.items()))
        others = f" (and {len(done.failed) - 1} more)" if len(done.failed) > 1 else ""
        _complain(f"{len(done.failed)} of the runs failed: {name}{others}: {reason}")
        raise typer.Exit(FAILED)
