"""``vaelab sample``, ``reconstruct``, ``encode``, ``score``, ``edit``: pictures, codes and scores for people."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaelab.cli.options import (
    ClassOption,
    DataOption,
    DeviceOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    RunArgument,
    SamplerOption,
    StrictPicturesOption,
    WithOption,
    WithoutOption,
    app,
    condition_of,
)
from vaelab.cli.terminal import print_json, show_progress, table


@app.command()
def sample(
    run: RunArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 25,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    sampler: SamplerOption = "prior",
    class_name: ClassOption = None,
    has: WithOption = None,
    lacks: WithoutOption = None,
    data: DataOption = None,
) -> None:
    """Draw images from the prior or from another sampler, onto one .png or into a folder.

    Examples: vaelab sample runs/mnist -n 100 · vaelab sample runs/mnist --sampler gmm --out samples/
    """
    import vaelab

    show_progress()
    print(
        vaelab.sample(
            run,
            count=count,
            seed=seed,
            out=out,
            overwrite=overwrite,
            device=device,
            sampler=sampler,
            condition=condition_of(class_name, has, lacks),
            data=data,
        )
    )


@app.command()
def reconstruct(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A picture, a folder, .npy or .npz (default: the held-out images)."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="How many images at the most (default: 16 on a sheet, else all)."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    class_name: ClassOption = None,
    has: WithOption = None,
    lacks: WithoutOption = None,
) -> None:
    """Show images above their reconstructions (.png), or write the reconstructions into a folder.

    Example: vaelab reconstruct runs/mnist my-digits/ --out rebuilt.png
    """
    import vaelab

    show_progress()
    print(
        vaelab.reconstruct(
            run,
            images,
            count=count,
            data=data,
            out=out,
            overwrite=overwrite,
            strict=strict,
            device=device,
            condition=condition_of(class_name, has, lacks),
        )
    )


@app.command()
def encode(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A picture, a folder, .npy or .npz (default: the held-out images)."),
    ] = None,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option("--precision", help="Of the encoder's arithmetic; codes are float32.")
    ] = "fp32",
    class_name: ClassOption = None,
    has: WithOption = None,
    lacks: WithoutOption = None,
) -> None:
    """Write the posterior means and log-variances of images to .parquet, .csv or .npz.

    Examples: vaelab encode runs/mnist my-digits/ --out codes.csv · torchrun -m vaelab encode runs/mnist my-digits.npy
    """
    import vaelab
    from vaelab.system.distributed import launched_group

    if launched_group().is_main:
        show_progress()
    path = vaelab.encode(
        run,
        images,
        data=data,
        out=out,
        overwrite=overwrite,
        strict=strict,
        device=device,
        precision=precision,
        condition=condition_of(class_name, has, lacks),
    )
    if launched_group().is_main:
        print(path)


@app.command()
def score(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A picture, a folder, .npy or .npz (default: the held-out images)."),
    ] = None,
    normal: Annotated[
        Path | None,
        typer.Option("--normal", help="Images to tell them apart from: the same kinds, or held-out for the run's own."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Codes drawn for each image.")] = 16,
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how unusual each image is: a table of ELBO, reconstruction and KL, most unusual first, and a .png.

    Examples: vaelab score runs/mnist my-digits/ · vaelab score runs/mnist clothes.npy --normal held-out
    """
    import vaelab

    show_progress()
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
        return
    print(scored.table)
    print(scored.sheet)
    if scored.separations:
        print(scored.summary)
        found = {name: numbers for name, numbers in scored.separations.items() if name != "protocol"}
        every = list(next(iter(found.values())))
        thresholds = ["threshold", "threshold_tpr", "threshold_fpr", "threshold_at_95_tpr"]
        for keys in ([key for key in every if key not in thresholds], thresholds):
            headers = ("score", *(key.replace("_", " ") for key in keys))
            table(headers, [(name, *(f"{numbers[key]:.3f}" for key in keys)) for name, numbers in found.items()])
        print("; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in scored.separations["protocol"].items()))


@app.command()
def edit(
    run: RunArgument,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="A picture, a folder, .npy or .npz (default: some held-out images)."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME", help="An attribute or a class; as often as you like."),
    ] = None,
    by: Annotated[
        list[float] | None,
        typer.Option(
            "--by", metavar="STEPS", help="How far: 1 leads from without to with (default: 2); once, or each."
        ),
    ] = None,
    method: Annotated[
        Literal["means", "probe"],
        typer.Option("--method", help="means: from the mean without to the mean with; probe: along a probe's normal."),
    ] = "means",
    data: DataOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictPicturesOption = False,
    class_name: ClassOption = None,
    has: WithOption = None,
    lacks: WithoutOption = None,
) -> None:
    """Move images along the directions of attributes or classes: originals, reconstructions and edits on a .png.

    Examples: vaelab edit runs/celeba me.jpg --attribute Smiling --by 2 · vaelab edit runs/mnist --attribute 7
    """
    import vaelab

    if not attribute:
        raise typer.BadParameter("name at least one, such as --attribute Smiling", param_hint="--attribute")
    show_progress()
    print(
        vaelab.edit(
            run,
            images,
            attribute=attribute,
            by=by or 2.0,
            method=method,
            data=data,
            out=out,
            overwrite=overwrite,
            strict=strict,
            condition=condition_of(class_name, has, lacks),
        )
    )
