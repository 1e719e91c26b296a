"""``vaelab export`` and ``convert``: models for other programs and for the web, and models of other packages."""

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
        typer.Option("--to", help="onnx: graphs; torch: programs for PyTorch alone; web: the explorer as a page."),
    ],
    out: Annotated[
        str | None, typer.Argument(metavar="OUT", help="A new folder or file (default: a new name next to the run).")
    ] = None,
    points: Annotated[
        int | None,
        typer.Option("--points", min=2, help="Training images on the page (default: 5000, or as many as fit in 8 MB)."),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write one .html, which also opens without a web server.")
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
    rows = [(part, f"{size:,}") for part, size in exported.sizes.items()]
    total = [("total", f"{sum(exported.sizes.values()):,}")] if len(rows) > 1 else []
    print_table(("part", "bytes"), [*rows, *total])
    print(f"differs from torch by at most {exported.difference:.1g}")
    print(exported.path)


@options.app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File or folder that the other package saved.")],
    recipe: options.Recipe,
    package: Annotated[str, typer.Option("--from", metavar="PACKAGE", help="pythae or pytorch-vae.")],
    overrides: options.Overrides = None,
    data: options.Data = None,
    run: Annotated[Path | None, typer.Option("--run", help="Directory of the run (default: runs/PACKAGE).")] = None,
) -> None:
    """Make a run of a model that was trained with another package.

    RECIPE says which images belong to the model; network and objective come from SOURCE. Nothing in it is executed.

    Examples:
      vaelab convert my_model/final_model mnist --from pythae
      vaelab convert last.ckpt folder --from pytorch-vae --data ~/pictures
    """
    import vaelab

    converted = vaelab.convert(source, recipe, options.parse_overrides(overrides), package=package, data=data, run=run)
    for note in converted.machine["notes"]:
        print_note(note)
    print(converted.path)
