"""The command line: parses, renders progress and tables; the only place that prints."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from vaelab import lab

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line at least this far apart."""

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
    Path | None, typer.Option("--data", help="Folder with the images [default: $VAELAB_DATA, then the cache].")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where to write [default: a free name here].")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what lies at --out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (saved, resumable)."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(arguments, standalone_mode=False)
        code = DONE
    except KeyboardInterrupt as interrupt:
        _complain(str(interrupt) or "interrupted")
        code = INTERRUPTED
    except Exception as error:
        code = _explain(error, debug)
    sys.stdout.flush()
    raise SystemExit(code)


def _explain(error: Exception, debug: bool) -> int:
    """One clear line for an error, and the exit code that goes with it."""
    import click

    if isinstance(error, click.exceptions.Abort):
        _complain("interrupted")
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        _complain(error.format_message())
        return WRONG_USAGE if isinstance(error, click.UsageError) else FAILED
    if isinstance(error, BrokenPipeError):  # the reader of a pipe went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    if debug:
        import traceback

        traceback.print_exception(error)
    from vaelab.catalog import UnknownName

    wrong_usage = isinstance(error, UnknownName) or type(error).__name__ == "WrongRecipe"
    expected = isinstance(error, ValueError | OSError | RuntimeError) and str(error)
    _complain(
        str(error) if expected else f"{type(error).__name__}: {error} (a traceback: the same command with --debug)"
    )
    return WRONG_USAGE if wrong_usage else FAILED


def _complain(text: str) -> None:
    print(f"vaelab: {' '.join(text.split())}", file=sys.stderr)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table on the terminal; tab-separated lines for a pipe."""
    console = _console()
    if not console.is_terminal:
        for row in (headers, *rows):
            print("\t".join(row))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


# -- progress ---------------------------------------------------------------------------------------------------------


def _bar(console: "Console") -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _PlainProgress:
    """Work without a terminal: a line now and then."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total, self._done, self._said = label, total, 0, time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        if time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            print(f"{self._label}: {self._done:,}" + (f" of {self._total:,}" if self._total else ""), file=sys.stderr)


class _BarProgress:
    """Work on a terminal: a bar."""

    def __init__(self, bar: "Progress", label: str, total: int | None) -> None:
        self._bar, self._task = bar, bar.add_task(label, total=total, status="")

    def advance(self, amount: int) -> None:
        self._bar.update(self._task, advance=amount)


def _show_progress() -> None:
    """Let vaelab's long pieces of work be seen, on stderr."""
    from rich.console import Console

    from vaelab import runtime

    console = Console(stderr=True)

    @contextmanager
    def factory(label: str, total: int | None) -> Iterator[runtime.Progress]:
        if not console.is_terminal:
            yield _PlainProgress(label, total)
            return
        with _bar(console) as bar:
            yield _BarProgress(bar, label, total)

    runtime.show_progress(factory)


class _TrainingView:
    """Renders what ``lab.train`` reports: a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = _console()
        self._progress: Progress | None = None
        self._said = 0.0
        self._started: lab.Started | None = None

    def __call__(self, event: "lab.Event") -> None:
        from vaelab import lab, training

        if isinstance(event, lab.Started):
            self._start(event)
        elif isinstance(event, training.Tick):
            self._tick(event)
        elif isinstance(event, lab.Note):
            if event.warning:
                self._console.print(f"[bold]warning:[/bold] {_escape(event.text)}")
            elif event.text.startswith("goes on"):
                self._console.print(event.text)
        else:
            self._finish(event)

    def _start(self, event: "lab.Started") -> None:
        self._started = event
        counts = event.num_parameters
        machine = event.machine
        self._console.print(
            f"{_escape(str(event.run.path))}: {event.recipe.title}\n"
            f"{event.num_images:,} images, {event.num_steps:,} steps of {event.recipe.training.batch_size}, "
            f"{sum(counts.values()):,} parameters (encoder {counts['encoder']:,}, decoder {counts['decoder']:,}), "
            f"{machine['device']} {machine['precision']}, {machine['threads']} threads"
        )
        if self._console.is_terminal:
            self._progress = _bar(self._console)
            self._progress.start()
            self._task = self._progress.add_task(
                "training", total=event.num_steps, completed=event.first_step, status=""
            )

    def _tick(self, tick: Any) -> None:
        assert self._started is not None
        status = self._status(tick)
        if self._progress is not None:
            self._progress.update(self._task, completed=tick.step, status=status)
        if tick.validation:
            values = tick.validation
            line = (
                f"epoch {tick.epoch:>3}  held-out images: loss {values['loss']:.2f}  reconstruction "
                f"{values['reconstruction']:.2f}  KL {values['kl']:.2f}  ELBO {values['elbo']:.2f}"
            )
            self._console.print(line if self._progress is not None else f"{line}  |  {status}")
            self._said = time.monotonic()
        elif self._progress is None and time.monotonic() - self._said > PLAIN_SECONDS:
            self._console.print(f"step {tick.step:,}/{self._started.num_steps:,}  {status}")
            self._said = time.monotonic()
        if (tick.step == self._started.num_steps or tick.stopped) and self._progress is not None:
            self.close()

    def _status(self, tick: Any) -> str:
        assert self._started is not None
        if not len(tick.terms["loss"]):
            return ""
        loss, reconstruction, kl = (float(tick.terms[name].mean()) for name in ("loss", "reconstruction", "kl"))
        epochs = -(-self._started.num_steps // self._started.steps_per_epoch)
        seconds = (self._started.num_steps - tick.step) * self._started.recipe.training.batch_size
        left = seconds / max(tick.images_per_second, 1e-9)
        return (
            f"epoch {tick.epoch}/{epochs}  loss {loss:.2f} = {reconstruction:.2f} + KL {kl:.2f}  "
            f"{tick.images_per_second:,.0f} images/s"
            + ("" if self._progress is not None else f"  {_duration(left)} left")
        )

    def _finish(self, event: "lab.Finished") -> None:
        self.close()
        run = event.run
        measured = run.measured()
        if event.already:
            self._console.print(f"{_escape(str(run.path))} is done already; for another run choose --run or --set")
        self._console.print(
            f"loss {measured['loss_last_epoch']:.2f} = reconstruction {measured['reconstruction_last_epoch']:.2f} + "
            f"KL {measured['kl_last_epoch']:.2f}, mean of the last epoch, nats per image"
        )
        elbo = run.evaluation.get("likelihood", {}).get("elbo")
        if elbo is not None:
            split = run.evaluation["likelihood"]["measured_on"]["split"]
            self._console.print(f"ELBO of {split} images: {elbo:.2f} nats (with the likelihood's constant)")
        self._console.print(f"report: {_escape(str(run.path / 'report.html'))}")
        self._console.print(f"next: vaelab sample {_escape(str(run.path))}", style="dim")

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


# -- verbs ------------------------------------------------------------------------------------------------------------


@app.command("recipes")
def recipes_verb(as_json: JsonOption = False) -> None:
    """List the presets.

    Example: vaelab recipes --json
    """
    from vaelab import lab

    rows = lab.list_recipes()
    if as_json:
        _print_json(rows)
        return
    _table(
        ("recipe", "data", "image", "network", "latents", "objective", "parameters", "epochs", "published"),
        [
            (
                row["name"],
                row["data"],
                "×".join(str(side) for side in (*row["image_shape"][1:], row["image_shape"][0])),
                row["network"],
                str(row["latent_dim"]),
                row["objective"],
                f"{row['parameters']:,}",
                str(row["epochs"]),
                ", ".join(
                    f"{k.replace('_', ' ')} {v:g}" for k, v in row["expected"].items() if k.startswith("loss_last")
                ),
            )
            for row in rows
        ],
    )


@data_app.command("list")
def data_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the data sets, and where their files lie.

    Example: vaelab data list --data /data
    """
    from vaelab import lab

    rows = lab.list_data(data)
    if as_json:
        _print_json(rows)
        return
    _table(
        ("data set", "images", "size", "licence", "place"),
        [
            (
                row["name"],
                " + ".join(f"{count:,} {split}" for split, count in row["images"].items()),
                "×".join(str(side) for side in (*row["shape"][1:], row["shape"][0])),
                row["licence"],
                row["place"],
            )
            for row in rows
        ],
    )


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, such as mnist.")],
    to: Annotated[Path | None, typer.Option("--to", help="Folder to put it into [default: the cache].")] = None,
) -> None:
    """Download a data set; files that are there already stay.

    Example: vaelab data get mnist --to data
    """
    from vaelab import lab

    _show_progress()
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

    name, rows = lab.check_data(path)
    if as_json:
        _print_json({"data": name, "files": [{"file": file, "verdict": verdict} for file, verdict in rows]})
    else:
        print(f"{name}:")
        for file, verdict in rows:
            print(f"  {file}: {verdict.removeprefix(f'{file}: ')}")
    if any(verdict != "ok" for _, verdict in rows):
        raise typer.Exit(FAILED)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset (see vaelab recipes) or a .toml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; as often as you like."),
    ] = None,
    data: DataOption = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run's directory [default: runs/RECIPE and the overrides].")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Short for --set training.seed=N.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe, draw the figures, write the report; the same command again goes on where it stopped.

    Examples: vaelab train digits · vaelab train mnist --data ~/data --set objective.name=beta --set objective.beta=4
    """
    from vaelab import lab
    from vaelab.recipe import parse_override

    values = dict(parse_override(text) for text in overrides or [])
    if seed is not None:
        values["training.seed"] = seed
    _show_progress()
    if dry_run:
        _print_plan(lab.plan(recipe, values, data=data, run=run), as_json)
        return
    view = None if as_json else _TrainingView()
    try:
        done = lab.train(recipe, values, data=data, run=run, device=device, **({"watch": view} if view else {}))
    finally:
        if view:
            view.close()
    if as_json:
        _print_json({"run": str(done.path), "measured": done.measured(), "evaluation": done.evaluation})


def _print_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    recipe, parameters = plan["recipe"], plan["parameters"]
    if as_json:
        facts = {key: value for key, value in plan.items() if key not in ("recipe", "run")}
        _print_json({"run": str(plan["run"].path), "recipe": recipe.sections(), **facts})
        return
    print(recipe.to_toml())
    images = ", ".join(f"{count:,} {split}" for split, count in plan["images"].items())
    print(f"# images: {images}; {plan['steps']:,} steps")
    print(
        f"# parameters: {sum(parameters.values()):,} (encoder {parameters['encoder']:,}, decoder {parameters['decoder']:,})"
    )
    print(f"# in other papers' terms: {', '.join(f'{k} {v:.4g}' for k, v in plan['equivalents'].items())}")
    print(f"# run: {plan['run'].path} ({plan['state']})")


@app.command()
def figures(
    run: RunArgument,
    only: Annotated[str | None, typer.Option("--only", help="Names, separated by commas [default: all].")] = None,
    data: DataOption = None,
) -> None:
    """Draw the figures of a run again.

    Example: vaelab figures runs/mnist --only losses,latent
    """
    from vaelab import lab

    _show_progress()
    for path in lab.figures(run, data=data, names=_names(only)):
        print(path)


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

    _show_progress()
    results = lab.evaluate(run, data=data, metrics=_names(metrics))
    if as_json:
        _print_json(results)
        return
    rows = [
        (metric, name.replace("_", " "), f"{value:.4f}")
        for metric, entry in results.items()
        for name, value in entry.items()
        if isinstance(value, int | float)
    ]
    _table(("metric", "number", "nats per image"), rows)
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
        typer.Argument(metavar="[IMAGES]", help="A picture, a folder, .npy or .npz [default: the held-out images]."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images at the most.")] = 16,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show images above their reconstructions (.png), or write the reconstructions into a folder.

    Example: vaelab reconstruct runs/mnist my-digits/ --out rebuilt.png
    """
    from vaelab import lab

    _show_progress()
    print(lab.reconstruct(run, images, count=count, data=data, out=out, overwrite=overwrite))


@app.command()
def encode(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="[IMAGES]", help="A picture, a folder, .npy or .npz [default: the held-out images]."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the posterior means and log-variances of images to .parquet, .csv or .npz.

    Example: vaelab encode runs/mnist my-digits/ --out codes.csv
    """
    from vaelab import lab

    _show_progress()
    print(lab.encode(run, images, data=data, out=out, overwrite=overwrite))
