"""``vaelab reconstruct``: images and their reconstructions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.api.inputs import InputImages, load_inputs
from vaelab.api.output_paths import choose_pictures
from vaelab.api.pictures import Pixels, write_folder
from vaelab.data.arrays import as_eight_bits
from vaelab.data.images import Images
from vaelab.data.tensors import as_tensor, to_uint8
from vaelab.figures import reconstructions as figure
from vaelab.figures import render
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.files import write_atomic
from vaelab.system.progress import progress

SHEET_COUNT, SHEET_COLUMNS = 16, 8
"""Default number of images on a sheet, and images in each of its rows."""


def reconstruct(
    run_path: AnyPath,
    images: Any = None,
    *,
    count: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
    condition: Any = None,
) -> Images | Path:
    """Return reconstructions of images as ``Images``, or write them to ``out`` and return its path.

    ``out``: a .png with the originals above their reconstructions, or a folder of reconstructions. ``images``: an
    image, folder or array file, or images from memory as for ``train`` (default: the held-out images). ``count``: the
    number of images (default: 16 for a .png, else all); only these are read. Images that cannot be read are skipped
    with a warning. InputError is raised if none can be read or, with ``strict``, if one cannot. ``condition``: a class
    or attributes for a conditional model, instead of those of the images.
    """
    count = None if count is None else check_whole(count, "count", 1)
    run_name = Run.at(run_path).name
    path, is_sheet = choose_pictures(out, f"{run_name}-reconstructions.png", overwrite=overwrite)
    is_sheet &= out is not None
    model, inputs = load_inputs(run_path, images, data, strict=strict, condition=condition)
    model.to(resolve_device(device))
    count = min(count or (SHEET_COUNT if is_sheet else len(inputs)), len(inputs))
    names: list[str] = []
    with disable_tf32():
        chunks = _reconstruct_chunks(model, inputs, count, names)
        if out is None:
            pixels = np.concatenate([rebuilt for _, rebuilt in chunks])
            inputs.warn_noted()
            return Images(pixels, names=names, source=f"reconstructions by {run_name}")
        if is_sheet:
            originals, rebuilt = map(np.concatenate, zip(*chunks, strict=True))
            arrays = {"originals": originals, "reconstructions": rebuilt, "columns": SHEET_COLUMNS}
            words = {"Title": figure.TITLE, "Description": f"by {run_name}: the decoder's mean at the posterior mean"}
            write_atomic(path, render(figure.draw(arrays), words))
        else:
            write_folder(path, (rebuilt for _, rebuilt in chunks), count, names)
    inputs.warn_noted()
    return path


def _reconstruct_chunks(
    model: VAE, inputs: InputImages, count: int, names: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield the first ``count`` readable images and their reconstructions; append the names of each chunk first."""
    conditions = condition_of(model.spec, inputs.images)
    with progress("reconstructing", count) as bar:
        for rows, pixels in inputs.read(count):
            names += [inputs.names[row] for row in rows.tolist()]
            own = None if conditions is None else conditions[rows]
            yield as_eight_bits(pixels), to_uint8(model.reconstruct(as_tensor(pixels).to(model.device), own))
            bar.advance(len(rows))
