"""``vaelab data``: data sets, what there is, download, check, cache."""

from pathlib import Path
from typing import Annotated

import typer

from vaelab.cli.options import (
    FAILED,
    DataOption,
    JsonOption,
    OverridesOption,
    StrictOption,
    data_app,
    overrides_of,
    shape_of,
)
from vaelab.cli.terminal import print_json, print_note, show_progress, table


@data_app.command("list")
def data_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the data sets, and where their files lie.

    Example: vaelab data list --data /data
    """
    import vaelab

    rows = vaelab.list_data(data)
    if as_json:
        print_json(rows)
        return
    table(
        ("data set", "images", "size", "licence", "place"),
        [
            (
                row["name"],
                " + ".join(f"{count:,} {split}" for split, count in row["images"].items() if count) or "yours",
                shape_of(row["shape"]),
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
    import vaelab
    from vaelab.system import registry

    show_progress()
    if terms := registry.load("datasets", name).INFO.terms:
        print_note(terms)
    folder = vaelab.get_data(name, to)
    print(f"{name}: {folder}" if folder else f"{name} comes with vaelab; nothing to download")


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder with the files of a data set.")],
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find files of a data set that are broken, truncated or not what they should be.

    For a folder of your own pictures, state the splits and classes that a training would use. Exits 1 if a file is
    broken. Examples: vaelab data check ~/data/mnist · vaelab data check ~/pictures --set data.test=test/good
    """
    import vaelab

    checks = vaelab.check_data(path, overrides_of(overrides))
    if as_json:
        print_json(
            [
                {
                    "data": check.name,
                    "folder": str(check.folder),
                    "files": [{"file": file, "verdict": verdict} for file, verdict in check.files],
                    "notes": check.notes,
                    "warnings": check.warnings,
                }
                for check in checks
            ]
        )
    else:
        for check in checks:
            print(f"{check.name} in {check.folder}:")
            for file, verdict in check.files:
                print(f"  {file}: {verdict.removeprefix(f'{file}: ')}")
            for note in (*check.notes, *(f"warning: {warning}" for warning in check.warnings)):
                print(f"  {note}")
    if not all(check.is_ok for check in checks):
        raise typer.Exit(FAILED)


@data_app.command("cache")
def data_cache(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or .zip of pictures, or CelebA's folder.")],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="The data set (default: found out).")] = None,
    overrides: OverridesOption = None,
    strict: StrictOption = False,
) -> None:
    """Decode pictures once, into the cache, as a training would do at its start.

    Example: vaelab data cache ~/pictures --set data.size=128
    """
    import vaelab

    show_progress()
    images = vaelab.cache_data(path, name, overrides_of(overrides, strict=strict))
    for part, split in ((images.train, "train"), (images.valid, images.valid_split)):
        channels, height, width = part.image_shape
        split = split.removeprefix(f"{len(part)} images ")
        print(f"{split}: {len(part):,} images, {height}×{width} {'grey' if channels == 1 else 'RGB'}")
    for note in (*images.train.notes, *(f"warning: {warning}" for warning in images.train.warnings)):
        print(note)
