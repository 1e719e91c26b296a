"""``vaelab sample``: decode codes drawn from the prior or another sampler."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaelab.api.load import load_with_recipe
from vaelab.api.output_paths import choose_pictures
from vaelab.api.pictures import write_folder, write_sheet
from vaelab.api.run_images import load_run_images
from vaelab.api.run_sampler import make_run_sampler
from vaelab.data.images import Images, binarize
from vaelab.data.tensors import to_uint8
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import parse_condition
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE
from vaelab.recipe import Section, override_sampler, toml_value
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.errors import InputError
from vaelab.system.noise import generator
from vaelab.system.progress import progress


def sample(
    run_path: AnyPath,
    *,
    count: int = 25,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    sampler: str | None = None,
    set: Mapping[str, Any] | None = None,
    condition: Any = None,
    data: str | Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Images | Path:
    """Return ``count`` samples as ``Images``, or write them to ``out``, a .png or a folder, and return its path.

    ``sampler``: the distribution of codes (default: that of the recipe). ``set``: its options, such as
    {"sampler.components": 20}. ``condition``: a class by name or number, or a mapping from attributes to True or False,
    for a conditional model (default: drawn from the training set). ``data``: folder of the training images, for a
    sampler that is fitted to them. ``tell`` is called with one line that describes the sampler. A .png needs memory for
    all images, a folder does not.
    """
    count, seed = check_whole(count, "count", 1), check_whole(seed, "seed", 0)
    run_name = Run.at(run_path).name
    path, is_sheet = choose_pictures(out, f"{run_name}-samples.png", overwrite=overwrite)
    model, recipe = load_with_recipe(run_path)
    section = override_sampler(recipe.sampler, sampler, set or {})
    model.to(resolve_device(device))
    random = generator(seed, "sample", "condition")
    conditions = parse_condition(model.spec, condition, count, model.condition_rows.cpu(), random)
    with disable_tf32():
        fitted = load_sampler(section, model, run_path, data)
        described = describe_sampler(section, recipe.prior["name"], fitted.protocol)
        if tell is not None:
            tell(f"sampler: {described}")
        codes = fitted.sample(count, generator(seed, "sample"))
        chunks = _decode_chunks(model, codes, conditions)
        if out is None:
            return Images(np.concatenate(list(chunks)), source=f"samples of {run_name}, sampler {described}")
        if is_sheet:
            write_sheet(path, np.concatenate(list(chunks)), columns=int(np.ceil(np.sqrt(count))))
        else:
            write_folder(path, chunks, count)
    return path


def describe_sampler(section: Section, prior: str, protocol: Mapping[str, Any]) -> str:
    """Return the name of a sampler with its options, or the model's prior with its name, in one line.

    ``protocol`` of the fitted sampler has the values of options that are "auto".
    """
    used = {key: protocol.get(key, value) for key, value in section.items() if key != "name"}
    options = ", ".join(f"{key} = {toml_value(value)}" for key, value in used.items())
    inside = prior if section["name"] == "prior" else options
    return f"{section['name']}{f' ({inside})' if inside else ''}"


def load_sampler(section: Section, model: VAE, run_path: AnyPath, data: str | Path | None = None) -> Sampler:
    """Return a sampler for the model of a run: the stored one, or one fitted to the training images if it needs codes.

    Raises FileNotFoundError if it needs the training images and they are gone.
    """

    def load_train() -> Images:
        try:
            images = load_run_images(Run(run_path), data)
        except (InputError, FileNotFoundError) as error:
            if type(error) not in (InputError, FileNotFoundError):
                raise
            raise type(error)(f"{error}, or choose --sampler prior, which needs none") from None
        return binarize(images.train, images.binarize)

    run = Run.at(run_path)
    return make_run_sampler(run if run.exists else None, section, model, load_train)


def _decode_chunks(model: VAE, codes: Tensor, conditions: Tensor | None) -> Iterator[NDArray[np.uint8]]:
    with progress("decoding", len(codes)) as bar:
        for start, stop in chunk_spans(len(codes), model.spec.image_shape):
            yield to_uint8(model.decode(codes[start:stop], None if conditions is None else conditions[start:stop]))
            bar.advance(stop - start)
