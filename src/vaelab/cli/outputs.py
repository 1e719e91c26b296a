"""``vaelab sample``, ``reconstruct``, ``encode``, ``score`` and ``edit``: pictures, codes and scores of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaelab.cli.options import (
    ClassOption,
    DataOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    OutOption,
    OverwriteOption,
    RunArgument,
    SamplerOption,
    StrictPicturesOption,
    WithOption,
    WithoutOption,
    app,
    parse_condition,
)
from vaelab.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    import vaelab


@app.command()
def sample(
    run: RunArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of images.")] = 25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random numbers.")] = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    sampler: SamplerOption = "prior",
    class_name: ClassOption = None,
    present: WithOption = None,
    absent: WithoutOption = None,
    data: DataOption = None,
) -> None:
    """Draw images from a model, onto one .png or into a folder.

    Examples: vaelab sample runs/mnist -n 100 · vaelab sample runs/mnist --sampler gmm --out samples/
    """
    import vaelab

    path = vaelab.sample(
        run,
        count=count,
        seed=seed,
        out=out,
        overwrite=overwrite,
        device=device,
        sampler=sampler,
        condition=parse_condition(class_name, present, absent),
        data=data,
    )
    print(path)


@app.command()
def reconstruct(
    run: RunArgument,
    images: ImagesArgument = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Maximum number of images (default: 16 on a .png, all in a folder)."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    class_name: ClassOption = None,
    present: WithOption = None,
    absent: WithoutOption = None,
) -> None:
    """Reconstruct images.

    Writes a .png with images above their reconstructions, or a folder of reconstructions.

    Example: vaelab reconstruct runs/mnist my-digits/ --out rebuilt.png
    """
    import vaelab

    path = vaelab.reconstruct(
        run,
        images,
        count=count,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        device=device,
        condition=parse_condition(class_name, present, absent),
    )
    print(path)


@app.command()
def encode(
    run: RunArgument,
    images: ImagesArgument = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option("--precision", help="Precision of the encoder; codes are float32.")
    ] = "fp32",
    class_name: ClassOption = None,
    present: WithOption = None,
    absent: WithoutOption = None,
) -> None:
    """Encode images: write posterior means and log-variances.

    The format is that of the file name: .parquet, .csv or .npz.

    Examples: vaelab encode runs/mnist my-digits/ --out codes.csv · torchrun -m vaelab encode runs/mnist my-digits.npy
    """
    import vaelab
    from vaelab.system.distributed import launched_group

    path = vaelab.encode(
        run,
        images,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        device=device,
        precision=precision,
        condition=parse_condition(class_name, present, absent),
    )
    if launched_group().is_main:
        print(path)


@app.command()
def score(
    run: RunArgument,
    images: ImagesArgument = None,
    normal: Annotated[
        Path | None,
        typer.Option("--normal", help="Normal images, to measure how well scores detect the others; or: held-out."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of codes drawn for each image.")] = 16,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score how unusual each image is for a model.

    Writes a table of ELBO, reconstruction and KL, the most unusual image first, and a .png with both ends.

    Examples: vaelab score runs/mnist my-digits/ · vaelab score runs/mnist clothes.npy --normal held-out
    """
    import vaelab

    scored = vaelab.score(
        run,
        images,
        normal=normal,
        samples=samples,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        device=device,
    )
    if as_json:
        print_json(vars(scored))
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
        print_table(headers, [(name, *(f"{row[c]:.3f}" for c in columns)) for name, row in separations.items()])
    print("; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in scored.separations["protocol"].items()))


@app.command()
def edit(
    run: RunArgument,
    images: ImagesArgument = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="NAME", help="An attribute or a class; repeatable.")
    ] = None,
    by: Annotated[
        list[float] | None,
        typer.Option(
            "--by",
            metavar="STEP",
            help="Step along each attribute (default: 2), or one for all; 1 is the distance of the mean codes.",
        ),
    ] = None,
    method: Annotated[
        Literal["means", "probe"],
        typer.Option("--method", help="Direction: difference of mean codes, or normal of a linear probe."),
    ] = "means",
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    class_name: ClassOption = None,
    present: WithOption = None,
    absent: WithoutOption = None,
) -> None:
    """Move images along the directions of attributes or classes.

    Writes a .png with originals, reconstructions and edits of at most 8 images.

    Examples: vaelab edit runs/celeba me.jpg --attribute Smiling --by 2 · vaelab edit runs/mnist --attribute 7
    """
    import vaelab

    path = vaelab.edit(
        run,
        images,
        attribute=attribute or [],
        by=by or 2.0,
        method=method,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        condition=parse_condition(class_name, present, absent),
    )
    print(path)
