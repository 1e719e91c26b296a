"""``vaelab edit``: move images along the directions of attributes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vaelab.api.inputs import load_inputs
from vaelab.api.load import load
from vaelab.api.output_paths import choose_file, default_out
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.data.arrays import as_eight_bits
from vaelab.data.images import binarize
from vaelab.evaluation.evaluate import load_codes
from vaelab.figures import edits as figure
from vaelab.figures import number_names, render
from vaelab.models.codes import Method
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath, check_list, check_names, describe
from vaelab.system.errors import InputError, UsageError
from vaelab.system.files import write_atomic
from vaelab.system.messages import count_of, warn
from vaelab.system.noise import generator
from vaelab.system.picture import Picture

MAX_IMAGES = 8
"""Number of images on a sheet."""
NUM_TRAIN = 20_000
"""Number of training images that directions are computed from."""


def edit(
    run_path: AnyPath,
    images: Any = None,
    *,
    attribute: str | Sequence[str],
    by: float | Sequence[float] | None = None,
    method: Method = "means",
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    condition: Any = None,
) -> Picture:
    """Write originals, reconstructions and edits to a .png with one row per image, and return its path.

    The path is displayed as an image in a notebook. ``attribute``: one or several attributes or classes. ``by``: the
    step for each, or one for all (default: 2 for an attribute, 1 for a class). A step of 1 adds the difference between
    the mean codes of training images with and without an attribute to the posterior mean of an image. For a class, it
    moves to the mean code of the class, unless ``method`` is "probe". A VaelabWarning lists edits without visible
    effect.
    ``images``: an image, folder or array file, or images from memory as for ``train``, of which at most 8 are used
    (default: held-out images). Images that cannot be read are skipped with a warning. InputError is raised if none can
    be read or, with ``strict``, if one cannot. ``condition``: a class or attributes for a conditional model, instead of
    those of the images.
    """
    steps = pair_steps(attribute, by)
    if method not in get_args(Method):
        raise registry.unknown("method", method, get_args(Method))
    run = Run(run_path)
    path = choose_file(
        out or default_out(run_path, "-edits.png"), f"{run.name}-edits.png", (".png",), overwrite=overwrite
    )
    arrays = compute_edits(run, images, steps, method, data=data, strict=strict, condition=condition)
    before, words = arrays["columns"]
    shown, _ = number_names(dict(enumerate(words, 1)), "edits")
    arrays["columns"] = [before, list(shown.values())]
    texts = {"Title": figure.TITLE, "Description": f"{run.name}: {', '.join(words)}; directions by {method}"}
    write_atomic(path, render(figure.draw(arrays), texts))
    return Picture(path)


def compute_edits(
    run: Run,
    images: Any,
    steps: Sequence[tuple[str, float | None]],
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
        inputs.warn_noted()
    codes, edits = find_edits(run, model, known, [name for name, _ in steps], method)
    means = model.encode(pixels, conditions).mean.numpy().astype(np.float64)
    rebuilt, before = figure.decode_and_encode(model, means, conditions)
    edited, words = [], []
    for (_, asked), one in zip(steps, edits, strict=True):
        step = asked if asked is not None else 2.0 if one.target is None else 1.0
        decoded, after = figure.decode_and_encode(model, one.move(means, step), conditions)
        edited.append(decoded)
        words.append(one.describe(step))
        if one.target is None or step == 1:
            _warn_futile(one, one.succeeds(codes, before, after, step))
    return {
        "originals": np.stack([as_eight_bits(pixels), rebuilt], axis=1),
        "edited": np.stack(edited, axis=1),
        "rows": names if len(names) > 1 else [],
        "columns": [["original", "reconstruction"], words],
    }


def _warn_futile(edit: figure.Edit, succeeds: NDArray[np.bool_]) -> None:
    """Warn if an edit does not show in some of the images."""
    failed = int((~succeeds).sum())
    if failed:
        where = "the image" if len(succeeds) == 1 else f"{failed} of {len(succeeds)} images"
        if edit.target is None:
            reason = f"no visible effect on {where}: the codes of the edited images moved by less than half of the step"
        else:
            reason = f"it does not change {where} to this class: training images with similar codes belong to others"
        warn(f"edit by {edit.name}: {reason}")


def find_edits(
    run: Run, model: VAE, known: RunImages, names: Sequence[str], method: Method
) -> tuple[NDArray[np.float32], list[figure.Edit]]:
    """Return the codes of at most ``NUM_TRAIN`` training images, and the edits by attributes or classes they define."""
    train = binarize(known.train, known.binarize).subsample(NUM_TRAIN, generator(0, "directions"))
    has, valid = train.binary_attributes()
    if not valid:
        message = f"the images of {run.path} have neither attributes nor classes, which edits need"
        raise InputError(message, subject="attribute", value=names)
    columns = [_find_attribute(name, valid) for name in names]
    for j in columns:
        if has[:, j].all() or not has[:, j].any():
            share = "all" if has[:, j].any() else "none"
            message = f"{valid[j]}: {share} of the {len(train):,} training images used have it"
            raise InputError(message, subject="attribute", value=valid[j])
    codes, first_class = load_codes(run, model, train).mean, len(train.attribute_names)
    return codes, [
        figure.make_edit(codes, has[:, j], valid[j], is_class=j >= first_class, method=method) for j in columns
    ]


def pair_steps(attribute: str | Sequence[str], by: float | Sequence[float] | None) -> list[tuple[str, float | None]]:
    """Return each attribute with its step, None for the default.

    Raises UsageError unless there is one finite step, or one for each attribute.
    """
    names = check_names(attribute, "attribute")
    if not names:
        raise UsageError("name at least one attribute or class with --attribute", subject="attribute")
    if by is None:
        return [(name, None) for name in names]
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
