"""``vaelab export``, ``push`` and ``convert``: models for other programs, for the hub, and from other packages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from vaelab.cli import options
from vaelab.cli.terminal import print_note, print_table


@options.app.command()
def export(
    run: options.Run,
    to: Annotated[
        Literal["onnx", "torch", "web"],
        typer.Option("--to", help="onnx: ONNX graphs; torch: PyTorch programs; web: the explorer as a page."),
    ],
    out: Annotated[
        str | None, typer.Argument(metavar="OUT", help="A new folder or file (default: a new name next to the run).")
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            "--points", min=2, help="Number of training images on the page (default: 5000, or as many as fit in 8 MB)."
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write a single .html, which opens without a web server.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option("--runtime", help="Folder with onnxruntime-web (default: from the cache, npm or a CDN)."),
    ] = None,
    data: options.Data = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an export at OUT.")] = False,
) -> None:
    """Export a model as ONNX graphs, as PyTorch programs, or as a web page.

    Examples:
      vaelab export runs/mnist --to onnx mnist-onnx/
      vaelab export runs/mnist --to web site/
      vaelab export runs/mnist --to web --single-file mnist.html
    """
    import vaelab

    exported = vaelab.export(
        run, to=to, out=out, points=points, runtime=runtime, single_file=single_file, overwrite=overwrite, data=data
    )
    for note in exported.notes:
        print_note(note)
    _print_sizes("part", exported.sizes)
    print(f"differs from torch by at most {exported.difference:.1g}")
    print(exported.path)


@options.app.command()
def push(
    run: options.Run,
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Repository on the hub; created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", metavar="ID", help="Licence of the model, such as mit or cc-by-4.0."),
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            help="Figures to upload: names, all or none (default: all that do not show your own images).",
        ),
    ] = None,
    no_onnx: Annotated[bool, typer.Option("--no-onnx", help="Do not upload ONNX graphs.")] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Share a model on the Hugging Face hub.

    Uploads model, recipe, evaluation, figures, ONNX graphs and a model card, without paths and names of this machine.
    --dry-run prints the files and the card. Other commands accept the model as hub:USER/NAME.

    Examples:
      vaelab push runs/digits me/digits-vae --dry-run
      vaelab push runs/digits me/digits-vae --licence mit
      vaelab explore hub:me/digits-vae
    """
    import vaelab

    pushed = vaelab.push(
        run,
        repository,
        private=private,
        licence=licence,
        figures=options.split_names(figures),
        onnx=not no_onnx,
        dry_run=dry_run,
    )
    for note in pushed.notes:
        print_note(note)
    _print_sizes("file", pushed.sizes)
    if dry_run:
        print(f"\n{pushed.card}")
        print_note("nothing was uploaded")
    else:
        print(pushed.url)


def _print_sizes(what: str, sizes: Mapping[str, int]) -> None:
    """Print a table of parts with their sizes and, if there are several, their sum."""
    rows = [(part, f"{size:,}") for part, size in sizes.items()]
    total = [("total", f"{sum(sizes.values()):,}")] if len(rows) > 1 else []
    print_table((what, "bytes"), [*rows, *total])


@options.app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File or folder saved by the other package.")],
    recipe: options.Recipe,
    package: Annotated[str, typer.Option("--from", metavar="PACKAGE", help="pythae or pytorch-vae.")],
    overrides: options.Overrides = None,
    data: options.Data = None,
    run: Annotated[Path | None, typer.Option("--run", help="Directory of the run (default: runs/PACKAGE).")] = None,
) -> None:
    """Convert a model that was trained with another package to a run.

    RECIPE specifies the images of the model; network and objective come from SOURCE. Nothing in it is executed.

    Examples:
      vaelab convert my_model/final_model mnist --from pythae
      vaelab convert last.ckpt folder --from pytorch-vae --data ~/pictures
    """
    import vaelab

    converted = vaelab.convert(source, recipe, options.parse_overrides(overrides), package=package, data=data, run=run)
    for note in converted.machine["notes"]:
        print_note(note)
    print(converted.path)
