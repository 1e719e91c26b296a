"""``vaelab edit``: move images along the directions of attributes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api.inputs import load_inputs
from vaelab.api.load import load
from vaelab.api.output_paths import choose_file, default_out
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.data.images import binarize, to_uint8
from vaelab.evaluation.evaluate import load_codes
from vaelab.figures import edits as figure
from vaelab.figures import render
from vaelab.models.codes import Method, find_direction
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath, check_list, check_names, describe
from vaelab.system.errors import InputError, UsageError
from vaelab.system.files import write_atomic
from vaelab.system.messages import count_of
from vaelab.system.seeds import generator

MAX_IMAGES = 8
"""Number of images on a sheet."""
NUM_TRAIN = 20_000
"""Number of training images that directions are computed from."""


def edit(
    run_path: AnyPath,
    images: Any = None,
    *,
    attribute: str | Sequence[str],
    by: float | Sequence[float] = 2.0,
    method: Method = "means",
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    condition: Any = None,
) -> Path:
    """Write originals, reconstructions and edits onto a .png, one image a row, and return its path.

    ``attribute``: one or several attributes or classes. ``by``: the step along each, or one for all. A step of 1 adds
    the difference between the mean codes of training images with and without it to an image's posterior mean.
    ``images``: a picture, folder or array file, or images from memory as for ``train``, of which at most 8 are used
    (default: validation images). Pictures that cannot be read are left out with a warning. InputError is raised if none
    can be read or, with ``strict``, at
    the first. ``condition``: a class or attributes for a conditional model, instead of the images' own.
    """
    steps = pair_steps(attribute, by)
    if method not in get_args(Method):
        raise registry.unknown("method", method, get_args(Method))
    run = Run(run_path)
    path = choose_file(
        out or default_out(run_path, "-edits.png"), f"{run.name}-edits.png", (".png",), overwrite=overwrite
    )
    arrays = compute_edits(run, images, steps, method, data=data, strict=strict, condition=condition)
    words = ", ".join(arrays["columns"][1])
    texts = {"Title": figure.TITLE, "Description": f"{run.name}: {words}; directions by {method}"}
    write_atomic(path, render(figure.draw(arrays), texts))
    return path


def compute_edits(
    run: Run,
    images: Any,
    steps: Sequence[tuple[str, float]],
    method: Method = "means",
    *,
    data: str | Path | None = None,
    strict: bool = False,
    condition: Any = None,
) -> dict[str, Any]:
    """Return the arrays of the figure "edits": images before and after each (attribute, step)."""
    known = load_run_images(run, data)
    names: list[str] = []
    if images is None:
        model, some = load(run), known.valid.subsample(MAX_IMAGES, generator(0, "edits"))
        pixels, conditions = np.asarray(some.pixels[:]), condition_of(model.spec, some)
    else:
        model, inputs = load_inputs(run.path, images, data, strict=strict, condition=condition)
        rows, pixels = map(np.concatenate, zip(*inputs.read(MAX_IMAGES), strict=True))
        names = [inputs.names[row] for row in rows.tolist()]
        conditions = condition_of(model.spec, inputs.images)
        conditions = None if conditions is None else conditions[rows]
        inputs.warn_skipped()
    directions = find_directions(run, model, known, [name for name, _ in steps], method)
    means = model.encode(pixels, conditions).mean.numpy().astype(np.float64)
    moved = [means + step * towards for (_, step), (_, towards) in zip(steps, directions, strict=True)]
    decoded = [to_uint8(model.decode(torch.from_numpy(codes), conditions)) for codes in (means, *moved)]
    words = [
        f"{name.replace('_', ' ')} {figure.step_word(step)}"
        for (name, _), (_, step) in zip(directions, steps, strict=True)
    ]
    return {
        "originals": np.stack([pixels, decoded[0]], axis=1),
        "edited": np.stack(decoded[1:], axis=1),
        "rows": names if len(names) > 1 else [],
        "columns": [["original", "reconstruction"], words],
    }


def find_directions(
    run: Run, model: VAE, known: RunImages, names: Sequence[str], method: Method
) -> list[tuple[str, NDArray[np.float64]]]:
    """Return name and direction of attributes or classes in the codes of at most ``NUM_TRAIN`` training images."""
    train = binarize(known.train, known.binarize).subsample(NUM_TRAIN, generator(0, "directions"))
    has, valid = train.binary_attributes()
    if not valid:
        message = f"the images of {run.path} have neither attributes nor classes, so there is nothing to edit by"
        raise InputError(message, subject="attribute", value=names)
    columns = [_find_attribute(name, valid) for name in names]
    for j in columns:
        if has[:, j].all() or not has[:, j].any():
            share = "all" if has[:, j].any() else "none"
            message = f"{valid[j]}: {share} of the {len(train):,} training images used have it"
            raise InputError(message, subject="attribute", value=valid[j])
    means = load_codes(run, model, train).mean
    return [(valid[j], find_direction(means, has[:, j], method)) for j in columns]


def pair_steps(attribute: str | Sequence[str], by: float | Sequence[float]) -> list[tuple[str, float]]:
    """Return each attribute with its step; UsageError unless there is one finite step, or one for each attribute."""
    names = check_names(attribute, "attribute")
    if not names:
        raise UsageError("name at least one attribute or class", subject="attribute")
    steps = [by] if isinstance(by, int | float) else check_list(by, "by")
    if not all(isinstance(step, int | float | np.number) and not isinstance(step, bool) for step in steps):
        raise TypeError(f"by must be numbers; got {describe(by)}")
    if not all(math.isfinite(step) for step in steps):
        raise UsageError("--by must be a finite number, such as 2 or -1.5", subject="by", value=by)
    if len(steps) not in (1, len(names)):
        counts = f"{count_of(len(names), 'attribute')} and {count_of(len(steps), 'step')}"
        message = f"{counts}: give one --by for all, or one each"
        raise UsageError(message, subject="by", value=by)
    return list(zip(names, map(float, steps if len(steps) > 1 else steps * len(names)), strict=True))


def _find_attribute(name: str, valid: Sequence[str]) -> int:
    """Return the column of an attribute; case, and spaces for underscores, do not matter if the name is clear."""
    if name in valid:
        return valid.index(name)
    alike = [j for j, known in enumerate(valid) if _simplify(known) == _simplify(name)]
    if len(alike) != 1:
        raise registry.unknown("attribute", name, valid)
    return alike[0]


def _simplify(name: str) -> str:
    return name.replace("_", " ").casefold()
