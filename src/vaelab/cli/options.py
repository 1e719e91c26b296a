"""The application, its exit codes and the options that several commands share."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from vaelab.api.short_forms import list_short_forms
from vaelab.cli.layout import Group
from vaelab.system.terminal import print_text

DONE, FAILED, INTERRUPTED = 0, 1, 130

app = typer.Typer(
    cls=Group,
    help="Train, measure, explore and share variational autoencoders (VAEs) of images.",
    epilog="Start with: vaelab train digits. For examples, see the help of each command: vaelab help train.\n\n"
    "Environment variables: VAELAB_DATA (folder of data sets), XDG_CACHE_HOME (cache), VAELAB_PROGRESS_SECONDS "
    "(seconds between progress lines if the output is not a terminal; default 10).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(cls=Group, help="List, download, check and cache data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def complete_recipe(typed: str) -> list[str]:
    """Return the presets and the recipe files that begin with what was typed."""
    from importlib import resources

    files = (file.name for file in resources.files("vaelab.recipes").iterdir())
    presets = (name.removesuffix(".toml") for name in files if name.endswith(".toml"))
    own = map(str, _find_folder(typed).glob("*.toml"))
    return sorted({name for name in (*presets, *own) if name.startswith(typed)})


def complete_run(typed: str) -> list[str]:
    """Return the runs that begin with what was typed, in the folder runs and in that of the word."""
    folders = (Path("runs"), _find_folder(typed))
    found = (str(file.parent) for folder in folders for file in folder.glob("*/recipe.toml"))
    return sorted({run for run in found if run.startswith(typed)})


def _find_folder(typed: str) -> Path:
    """Return the folder that a path is being typed in."""
    return Path(typed) if typed.endswith("/") else Path(typed).parent


Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A preset (see vaelab recipes) or a .toml file.", autocompletion=complete_recipe
    ),
]
Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Directory of a run, such as runs/digits.", autocompletion=complete_run),
]
Images = Annotated[
    Path | None,
    typer.Argument(metavar="IMAGES", help="An image, a folder or .zip, .npy or .npz (default: the held-out images)."),
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of the images (default: $VAELAB_DATA, then the cache).")
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="PATH",
        help="File to write, or a folder if it exists or ends with / (default: a new name next to the run).",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option("--out", help="Directory for the results, for example if the run is read-only (default: the run)."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a value of the recipe; repeatable.")
]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="TRACKER", help="Also log to tensorboard, wandb, trackio or mlflow; repeatable."),
]
ClassName = Annotated[
    str | None, typer.Option("--class", metavar="NAME", help="Class by name or number, for a label-conditional model.")
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="ATTRIBUTE", help="Attribute that the images have, for an attribute-conditional model."
    ),
]
Without = Annotated[
    list[str] | None, typer.Option("--without", metavar="ATTRIBUTE", help="Attribute that the images do not have.")
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler", metavar="NAME", help="Distribution of codes: prior, gmm … (default: that of the recipe)."
    ),
]
SamplerOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="sampler.KEY=VALUE", help="Set an option of the sampler; repeatable."),
]
StrictPictures = Annotated[
    bool, typer.Option("--strict", help="Stop at the first image that cannot be read, instead of skipping it.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse data with images that cannot be read.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def complain(text: str) -> None:
    """Print an error as one line on stderr."""
    print_text(f"vaelab: {' '.join(text.split())}", to_stderr=True)


def with_short_forms(forms: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each short form, in the place of its argument ``short``, a dictionary."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = [
            inspect.Parameter(
                word,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    str | None,
                    typer.Option(
                        f"--{word.replace('_', '-')}", metavar=form.metavar, help=f"{form.help} ({form.key})."
                    ),
                ],
            )
            for word, form in list_short_forms(forms).items()
        ]

        @wraps(command)
        def call(**given: Any) -> None:
            from vaelab.recipe import parse_override

            texts = {option.name: given.pop(option.name) for option in options}
            short = {word: parse_override(f"{word}={text}")[1] for word, text in texts.items() if text is not None}
            command(**given, short=short)

        own = inspect.signature(command).parameters.values()
        parameters = [
            found.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in own
            for found in (options if parameter.name == "short" else [parameter])
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def parse_overrides(texts: list[str] | None, *, strict: bool = False) -> dict[str, Any]:
    """Return values by dotted key, from ``--set`` and ``--strict``."""
    from vaelab.recipe import parse_override

    values = dict(parse_override(text) for text in texts or [])
    if strict:
        values["data.strict"] = True
    return values


def parse_condition(class_name: str | None, present: list[str] | None, absent: list[str] | None) -> Any:
    """Return the condition that ``--class``, ``--with`` and ``--without`` describe; None without any of them."""
    attributes = {**dict.fromkeys(present or [], True), **dict.fromkeys(absent or [], False)}
    if class_name is not None and attributes:
        raise typer.BadParameter("give --class, or --with and --without", param_hint="--class")
    if both := sorted({*(present or [])} & {*(absent or [])}):
        raise typer.BadParameter(f"{both[0]} is also given to --with", param_hint="--without")
    if class_name is not None:
        return int(class_name) if class_name.isdecimal() else class_name
    return attributes or None


def split_names(text: str | None) -> list[str] | None:
    """Return the names in a comma-separated list; None without a list."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def format_shape(shape: Sequence[int] | None) -> str:
    """Return height×width×channels of an image shape (channels first)."""
    return "×".join(str(side) for side in (*shape[1:], shape[0])) if shape else "yours"
