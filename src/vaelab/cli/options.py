"""The application, and what its verbs share: options, exit codes, how a complaint is printed."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

DONE, FAILED, INTERRUPTED = 0, 1, 130

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
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="PATH",
        help="File to write, or a folder: one that exists, or a name that ends in / (default: a free name here).",
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Directory for the results instead of the run, which may be read-only (default: the run)."
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the file that lies at --out.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; as often as you like."),
]
ClassOption = Annotated[
    str | None, typer.Option("--class", metavar="NAME", help="Class by name or number, for a label-conditional model.")
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="ATTRIBUTE", help="Attribute that images have, for an attribute-conditional model."),
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", metavar="ATTRIBUTE", help="Attribute that images do not have.")
]
SamplerOption = Annotated[
    str,
    typer.Option("--sampler", metavar="NAME", help="Distribution of codes: prior, gmm … (docs/reference/samplers.md)."),
]
StrictPicturesOption = Annotated[
    bool, typer.Option("--strict", help="Fail at the first picture that cannot be read, instead of leaving it out.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse data with pictures that cannot be read.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def complain(text: str) -> None:
    """One line on stderr that says what is wrong."""
    print(f"vaelab: {' '.join(text.split())}", file=sys.stderr)


def overrides_of(texts: list[str] | None, seed: int | None = None, strict: bool = False) -> dict[str, Any]:
    """Values by dotted key, from ``--set`` and the options that are short for one."""
    from vaelab.recipe import parse_override

    values = dict(parse_override(text) for text in texts or [])
    if seed is not None:
        values["training.seed"] = seed
    if strict:
        values["data.strict"] = True
    return values


def condition_of(class_name: str | None, has: list[str] | None, lacks: list[str] | None) -> Any:
    """The condition that ``--class``, ``--with`` and ``--without`` ask for; None without any of them."""
    if class_name is not None and (has or lacks):
        raise typer.BadParameter("give --class, or --with and --without", param_hint="--class")
    both = sorted({*(has or [])} & {*(lacks or [])})
    if both:
        raise typer.BadParameter(f"{both[0]} is named by --with as well", param_hint="--without")
    if class_name is not None:
        return int(class_name) if class_name.isdecimal() else class_name
    attributes = {**dict.fromkeys(has or [], True), **dict.fromkeys(lacks or [], False)}
    return attributes or None


def names_of(text: str | None) -> list[str] | None:
    """The names in a list with commas; None where nothing was given."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def shape_of(shape: list[int] | None) -> str:
    """Height, width and channels; of pictures that are a person's own, that."""
    return "×".join(str(side) for side in (*shape[1:], shape[0])) if shape else "yours"
