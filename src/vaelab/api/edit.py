"""``vaelab edit``: images moved along the directions of attributes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api.data import DataOfRun, data_of
from vaelab.api.given import Warn, load_with_images, warn_in_python
from vaelab.api.results import load
from vaelab.api.targets import output_file
from vaelab.data.images import binarize, to_uint8
from vaelab.evaluation.evaluate import codes_of
from vaelab.figures import edits as figure
from vaelab.figures import render
from vaelab.models.codes import Method, direction
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry as catalog
from vaelab.system.arguments import AnyPath, check_list, check_names, describe
from vaelab.system.errors import UsageError
from vaelab.system.files import write_atomic
from vaelab.system.seeds import generator

MOST = 8
"""Images that one sheet shows."""
ENOUGH = 20_000
"""Training images from which directions are taken."""


def edit(
    run_path: AnyPath,
    images: str | Path | None = None,
    *,
    attribute: str | Sequence[str],
    by: float | Sequence[float] = 2.0,
    method: Method = "means",
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    condition: Any = None,
    warn: Warn = warn_in_python,
) -> Path:
    """Originals, their reconstructions, and what each edit makes of them, one image a row on a .png.

    ``attribute``: names of attributes or classes; ``by``: how far each, or one number for all. A step of 1 leads from
    the mean code of the training images without it to that of those with it, and is added to an image's posterior mean.
    ``images``: a picture or a folder, at most 8 of them; left out: held-out images. UnknownName lists the valid names.
    Pictures that cannot be read are left out, which ``warn`` is told; with ``strict``, or where none can be read, they
    raise ValueError. ``condition``: for a conditional model, a class or attributes in place of the images' own.
    """
    edits = _pair(attribute, by)
    if method not in get_args(Method):
        raise catalog.unknown("way to find a direction", method, get_args(Method))
    run = Run.open(run_path)
    path = output_file(out, f"{run.name}-edits.png", (".png",), overwrite=overwrite)
    known = data_of(run, data)
    names: list[str] = []
    if images is None:
        model, some = load(run.path), known.valid.subsample(MOST, generator(0, "edits"))
        pixels, conditions = np.asarray(some.pixels[:]), condition_of(model.spec, some)
    else:
        model, given = load_with_images(run.path, images, data, strict=strict, condition=condition)
        pixels, rows = given.pixels(MOST)
        names = [given.names[row] for row in rows.tolist()]
        conditions = condition_of(model.spec, given.images)
        conditions = None if conditions is None else conditions[rows]
        given.tell_skipped(warn)
    directions = find_directions(run, model, known, [name for name, _ in edits], method)
    means = model.encode(pixels, conditions).mean.numpy().astype(np.float64)
    moved = [means + step * towards for (_, step), (_, towards) in zip(edits, directions, strict=True)]
    decoded = [to_uint8(model.decode(torch.from_numpy(codes), conditions)) for codes in (means, *moved)]
    words = [
        f"{name.replace('_', ' ')} {figure.step_word(step)}"
        for (name, _), (_, step) in zip(directions, edits, strict=True)
    ]
    arrays = {
        "originals": np.stack([pixels, decoded[0]], axis=1),
        "edited": np.stack(decoded[1:], axis=1),
        "rows": names if len(names) > 1 else [],
        "columns": [["original", "reconstruction"], words],
    }
    texts = {"Title": figure.TITLE, "Description": f"{run.name}: {', '.join(words)}; directions by {method}"}
    write_atomic(path, render(figure.draw(arrays), texts))
    return path


def find_directions(
    run: Run, model: VAE, known: DataOfRun, names: Sequence[str], method: Method
) -> list[tuple[str, NDArray[np.float64]]]:
    """Name and direction of each attribute or class in the codes of the training images, or of a fixed many of them."""
    train = binarize(known.train, known.binarize).subsample(ENOUGH, generator(0, "directions"))
    has, valid = train.binary_attributes()
    if not valid:
        raise ValueError(
            f"the images of {run.path} have neither attributes nor classes, so there is nothing to edit by"
        )
    columns = [_column(name, valid) for name in names]
    for j in columns:
        if has[:, j].all() or not has[:, j].any():
            who = "all" if has[:, j].any() else "none"
            raise ValueError(f"{valid[j]}: {who} of the {len(train):,} training images looked at have it")
    means = codes_of(run, model, train).mean
    return [(valid[j], direction(means, has[:, j], method)) for j in columns]


def _pair(attribute: str | Sequence[str], by: float | Sequence[float]) -> list[tuple[str, float]]:
    """Every attribute with how far to go along it."""
    names = check_names(attribute, "attribute")
    if not names:
        raise UsageError("name at least one attribute or class")
    steps = [by] if isinstance(by, int | float) else check_list(by, "by")
    if not all(isinstance(step, int | float | np.number) and not isinstance(step, bool) for step in steps):
        raise TypeError(f"by must be numbers; got {describe(by)}")
    steps = [float(step) for step in steps]
    if len(steps) == 1:
        steps *= len(names)
    if len(steps) != len(names):
        raise UsageError(f"{len(names)} attributes and {len(steps)} steps: give one --by for all, or one each")
    if not all(math.isfinite(step) for step in steps):
        raise UsageError("--by must be a finite number, such as 2 or -1.5")
    return list(zip(names, steps, strict=True))


def _column(name: str, valid: Sequence[str]) -> int:
    """Where an attribute stands; spaces for underscores and another case will do where that is clear."""
    if name in valid:
        return valid.index(name)
    alike = [j for j, known in enumerate(valid) if _plain(known) == _plain(name)]
    if len(alike) != 1:
        raise catalog.unknown("attribute", name, valid)
    return alike[0]


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()
