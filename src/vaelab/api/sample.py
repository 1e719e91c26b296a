"""``vaelab sample``: decode codes drawn from the prior or another sampler."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaelab.api.load import load
from vaelab.api.output_paths import choose_pictures
from vaelab.api.pictures import write_folder, write_sheet
from vaelab.api.run_images import load_run_images
from vaelab.data.images import Images, binarize, to_uint8
from vaelab.models import samplers
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import parse_condition
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.progress import progress
from vaelab.system.seeds import generator


def sample(
    run_path: AnyPath,
    *,
    count: int = 25,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    sampler: str = "prior",
    condition: Any = None,
    data: str | Path | None = None,
) -> Images | Path:
    """Return ``count`` samples as ``Images``, or write them onto a .png or into a folder, ``out``, and return its path.

    ``condition``: a class by name or number, or a mapping from attributes to True or False, for a conditional model
    (default: drawn from the training set). ``data``: folder of the training images, for a sampler that is fitted to
    them. A folder takes any number of images. A sheet keeps all of them in memory.
    """
    count, seed = check_whole(count, "count", 1), check_whole(seed, "seed", 0)
    run_name = Run.at(run_path).name
    path, is_sheet = choose_pictures(out, f"{run_name}-samples.png", overwrite=overwrite)
    model = load(run_path)
    model.to(resolve_device(device))
    random = generator(seed, "sample", "condition")
    conditions = parse_condition(model.spec, condition, count, model.condition_rows.cpu(), random)
    with disable_tf32():
        codes = make_sampler(sampler, model, run_path, data).sample(count, generator(seed, "sample"))
        chunks = _decode_chunks(model, codes, conditions)
        if out is None:
            return Images(np.concatenate(list(chunks)), source=f"samples of {run_name}")
        if is_sheet:
            write_sheet(path, np.concatenate(list(chunks)), columns=int(np.ceil(np.sqrt(count))))
        else:
            write_folder(path, chunks, count)
    return path


def make_sampler(name: str, model: VAE, run_path: AnyPath, data: str | Path | None = None) -> samplers.Sampler:
    """Return a sampler for the model of a run, fitted to the codes of its training images if it needs codes.

    Raises UnknownName with the valid names, and FileNotFoundError if it needs the training images and they are gone.
    """

    def load_train() -> Images:
        images = load_run_images(Run(run_path), data)
        return binarize(images.train, images.binarize)

    return samplers.make_sampler(name, model, load_train)


def _decode_chunks(model: VAE, codes: Tensor, conditions: Tensor | None) -> Iterator[NDArray[np.uint8]]:
    with progress("decoding", len(codes)) as bar:
        for start, stop in chunk_spans(len(codes), model.spec.image_shape):
            yield to_uint8(model.decode(codes[start:stop], None if conditions is None else conditions[start:stop]))
            bar.advance(stop - start)
