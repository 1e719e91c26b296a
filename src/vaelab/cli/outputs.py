"""``vaelab sample``, ``reconstruct``, ``encode``, ``score`` and ``edit``: pictures, codes and scores of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaelab.cli import options
from vaelab.cli.terminal import print_json, print_note, print_table
from vaelab.system.terminal import print_text

if TYPE_CHECKING:
    import vaelab


@options.app.command()
def sample(
    run: options.Run,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of images.")] = 25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed.")] = 0,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    sampler: options.Sampler = None,
    overrides: options.SamplerOverrides = None,
    class_name: options.ClassName = None,
    present: options.With = None,
    absent: options.Without = None,
    data: options.Data = None,
) -> None:
    """Draw samples from a model, as one .png or into a folder.

    Examples:
      vaelab sample runs/mnist -n 100
      vaelab sample runs/mnist --sampler gmm --set sampler.components=20
    """
    import vaelab
    from vaelab.api.output_paths import default_out

    condition, notes = options.parse_condition(class_name, present, absent), list[str]()
    path = vaelab.sample(
        run,
        count=count,
        seed=seed,
        out=out or default_out(run, "-samples.png"),
        overwrite=overwrite,
        device=device,
        sampler=sampler,
        set=options.parse_overrides(overrides),
        condition=condition,
        data=data,
        tell=notes.append,
    )
    for note in notes:
        print_note(f"vaelab: {note}")
    print(path)


@options.app.command()
def reconstruct(
    run: options.Run,
    images: options.Images = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Maximum number of images (default: 16 in a .png, all in a folder)."),
    ] = None,
    data: options.Data = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    strict: options.StrictPictures = False,
    device: options.Device = "auto",
    class_name: options.ClassName = None,
    present: options.With = None,
    absent: options.Without = None,
) -> None:
    """Reconstruct images.

    Writes a .png with the images above their reconstructions, or a folder of reconstructions.

    Example:
      vaelab reconstruct runs/mnist my-digits/ --out rebuilt.png
    """
    import vaelab
    from vaelab.api.output_paths import default_out

    condition = options.parse_condition(class_name, present, absent)
    path = vaelab.reconstruct(
        run,
        images,
        count=count,
        data=data,
        out=out or default_out(run, "-reconstructions.png"),
        overwrite=overwrite,
        strict=strict,
        device=device,
        condition=condition,
    )
    print(path)


@options.app.command()
def encode(
    run: options.Run,
    images: options.Images = None,
    data: options.Data = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    strict: options.StrictPictures = False,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option("--precision", help="Precision of the encoder; codes are float32.")
    ] = "fp32",
    class_name: options.ClassName = None,
    present: options.With = None,
    absent: options.Without = None,
) -> None:
    """Encode images: write posterior means and log-variances.

    The format is that of the file name: .parquet, .csv or .npz.

    Examples:
      vaelab encode runs/mnist my-digits/ --out codes.csv
      torchrun -m vaelab encode runs/mnist my-digits.npy
    """
    import vaelab
    from vaelab.api.output_paths import default_out
    from vaelab.system.distributed import launched_group

    condition = options.parse_condition(class_name, present, absent)
    path = vaelab.encode(
        run,
        images,
        data=data,
        out=out or default_out(run, "-codes.parquet"),
        overwrite=overwrite,
        strict=strict,
        device=device,
        precision=precision,
        condition=condition,
    )
    if launched_group().is_main:
        print(path)


@options.app.command()
def score(
    run: options.Run,
    images: options.Images = None,
    normal: Annotated[
        Path | None,
        typer.Option(
            "--normal", help="Normal images, to measure how well the scores separate the two sets; or: held-out."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of codes drawn for each image.")] = 16,
    data: options.Data = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    strict: options.StrictPictures = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Score how unusual each image is under a model.

    Writes a table of ELBO, reconstruction and KL, the most unusual image first, and a .png of both ends of the table.

    Examples:
      vaelab score runs/mnist my-digits/
      vaelab score runs/mnist clothes.npy --normal held-out
    """
    import vaelab
    from vaelab.api.output_paths import default_out

    scored = vaelab.score(
        run,
        images,
        normal=normal,
        samples=samples,
        data=data,
        out=out or default_out(run, "-scores.csv"),
        overwrite=overwrite,
        strict=strict,
        device=device,
    )
    if as_json:
        print_json({name: value for name, value in vars(scored).items() if name != "columns"})
    else:
        _print_scores(scored)


def _print_scores(scored: "vaelab.Scored") -> None:
    """Print the files and how well each score separates the images from normal ones."""
    print(scored.table)
    print(scored.sheet)
    if not scored.separations:
        return
    print(scored.summary)
    separations = {name: numbers for name, numbers in scored.separations.items() if name != "protocol"}
    names = list(next(iter(separations.values())))
    thresholds = ["threshold", "threshold_tpr", "threshold_fpr", "threshold_at_95_tpr"]
    for columns in ([name for name in names if name not in thresholds], thresholds):
        headers = ("score", *(column.replace("_", " ") for column in columns))
        print_table(headers, [(name, *(_format(row[c]) for c in columns)) for name, row in separations.items()])
    print_text("; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in scored.separations["protocol"].items()))


def _format(number: float | None) -> str:
    """Return a number of a separation with three decimals; None stands for an infinite threshold."""
    return "infinite" if number is None else f"{number:.3f}"


@options.app.command()
def edit(
    run: options.Run,
    images: options.Images = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="NAME", help="An attribute or a class; repeatable.")
    ] = None,
    by: Annotated[
        list[float] | None,
        typer.Option(
            "--by",
            metavar="STEP",
            help="Step for each attribute, or one for all (default: 2 for an attribute, 1 for a class).",
        ),
    ] = None,
    method: Annotated[
        Literal["means", "probe"],
        typer.Option("--method", help="Direction: difference of mean codes, or normal of a linear probe."),
    ] = "means",
    data: options.Data = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    strict: options.StrictPictures = False,
    class_name: options.ClassName = None,
    present: options.With = None,
    absent: options.Without = None,
) -> None:
    """Move images along directions of attributes, or towards classes.

    Writes a .png with originals, reconstructions and edits of at most 8 images. A step of 1 is the difference
    between the mean codes with and without an attribute. For a class, it leads to the mean code of the class.

    Examples:
      vaelab edit runs/celeba me.jpg --attribute Smiling --by 2
      vaelab edit runs/mnist --attribute 7
    """
    import vaelab

    condition = options.parse_condition(class_name, present, absent)
    path = vaelab.edit(
        run,
        images,
        attribute=attribute or [],
        by=by or None,
        method=method,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        condition=condition,
    )
    print(path)
