"""``vaelab data``: list, download, check and cache data sets."""

from pathlib import Path
from typing import Annotated

import typer

from vaelab.cli import options
from vaelab.cli.terminal import print_json, print_note, print_table
from vaelab.system.messages import count_of
from vaelab.system.terminal import print_text


@options.data_app.command("list")
def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the data sets and their folders.

    Example:
      vaelab data list --data /data
    """
    import vaelab

    rows = vaelab.list_data(data)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("data set", "images", "size", "licence", "place"),
        [
            (
                row["name"],
                " + ".join(f"{count:,} {split}" for split, count in row["images"].items() if count) or "yours",
                options.format_shape(row["shape"]),
                row["licence"],
                row["place"],
            )
            for row in rows
        ],
    )


@options.data_app.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, such as mnist.")],
    to: Annotated[Path | None, typer.Option("--to", help="Folder for the files (default: the cache).")] = None,
) -> None:
    """Download a data set; existing files are kept.

    Example:
      vaelab data get mnist --to data
    """
    import vaelab
    from vaelab.data.datasets import load_dataset

    if terms := load_dataset(name).info.terms:
        print_note(terms)
    folder = vaelab.get_data(name, to)
    print(f"{name}: {folder}" if folder else f"{name} comes with vaelab; nothing to download")


@options.data_app.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder with the files of a data set.")],
    overrides: options.Overrides = None,
    as_json: options.Json = False,
) -> None:
    """Find files of a data set that are damaged, incomplete or different from the published ones.

    For a folder of your own images, also lists the splits and classes that training would use. The exit code is 1 if a
    file is damaged.

    Examples:
      vaelab data check ~/data/mnist
      vaelab data check ~/pictures --set data.test=test/good
    """
    import vaelab

    checks = vaelab.check_data(path, options.parse_overrides(overrides))
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
                print_text(f"  {file}: {verdict.removeprefix(f'{file}: ')}")
            for note in (*check.notes, *(f"warning: {warning}" for warning in check.warnings)):
                print_text(f"  {note}")
    if not all(check.is_ok for check in checks):
        raise typer.Exit(options.FAILED)


@options.data_app.command("cache")
def cache(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or .zip of images, or CelebA's folder.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The data set (default: the one found at PATH).")
    ] = None,
    overrides: options.Overrides = None,
    strict: options.Strict = False,
) -> None:
    """Decode images into the cache, as the first training run would.

    Example:
      vaelab data cache ~/pictures --set data.size=128
    """
    import vaelab
    from vaelab.data.images import name_channels

    images = vaelab.cache_data(path, name, options.parse_overrides(overrides, strict=strict))
    for part, split in ((images.train, "train"), (images.valid, images.valid_split)):
        channels, height, width = part.image_shape
        split = split.removeprefix(f"{len(part)} images ")
        print(f"{split}: {count_of(len(part), 'image')}, {height}×{width} {name_channels(channels)}")
    for note in (*images.train.notes, *(f"warning: {warning}" for warning in images.train.warnings)):
        print_text(note)
