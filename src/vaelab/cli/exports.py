"""``vaelab export``: a model for other programs, and for the web."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaelab.cli.options import DataOption, RunArgument, app
from vaelab.cli.terminal import print_note, show_progress, table


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        Literal["onnx", "web"],
        typer.Option("--to", help="onnx: graphs for other programs; web: the page of explore, without a server."),
    ],
    out: Annotated[
        str | None, typer.Argument(metavar="OUT", help="A new folder, or file (default: a free name here).")
    ] = None,
    points: Annotated[
        int | None,
        typer.Option("--points", min=2, help="Training images in the page (default: 5000, or what 8 MB hold)."),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="One .html with all in it, which opens from the disk.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option("--runtime", help="Folder with onnxruntime-web (default: the cache, npm, or linked from a CDN)."),
    ] = None,
    data: DataOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an export at OUT.")] = False,
) -> None:
    """Write a model as ONNX graphs, or as a page in which it runs without Python.

    Examples: vaelab export runs/mnist --to web site/ · vaelab export runs/mnist --to web --single-file mnist.html
    """
    import vaelab

    show_progress()
    done = vaelab.export(
        run,
        to=to,
        out=out,
        points=points,
        runtime=runtime,
        single_file=single_file,
        overwrite=overwrite,
        data=data,
    )
    for note in done.notes:
        print_note(note)
    rows = [(part, f"{size:,}") for part, size in done.sizes.items()]
    table(("part", "bytes"), [*rows, ("together", f"{sum(done.sizes.values()):,}")] if len(rows) > 1 else rows)
    print(f"differs from torch by at most {done.difference:.1g}")
    print(done.path)
