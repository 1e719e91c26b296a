"""``vaelab convert``: a model of another package as a run."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vaelab import recipe as recipes
from vaelab.api.load import describe_weights
from vaelab.api.plan import format_value
from vaelab.api.run_images import RunImages, load_images
from vaelab.build import build
from vaelab.converters import Converted
from vaelab.models.conditions import training_rows
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe, ResolvedRecipe
from vaelab.run import Run
from vaelab.run.absence import RUNS
from vaelab.run.weights import CONDITION_ROWS
from vaelab.system import registry
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.device import describe_machine
from vaelab.system.errors import InputError
from vaelab.system.files import unique_path

TRAINED_ELSEWHERE = "converted model: the section [training] of the recipe does not describe how it was trained"
"""A note of every converted run."""


def convert(
    source: AnyPath,
    name: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    package: str,
    data: str | Path | None = None,
    run: str | Path | None = None,
) -> Run:
    """Convert a model that was trained with another package to a run, and return the run.

    ``source`` is the file or folder that ``package`` ("pythae" or "pytorch_vae") saved. Nothing in it is executed. The
    recipe ``name`` and ``data`` specify the images of the model, as in ``train``. Network, likelihood and
    objective come from the model. ``set`` overrides keys of the recipe, such as ``objective.beta`` where the file does
    not hold it. ``run`` is the new directory (default: runs/PACKAGE, or a new name).

    All other functions work on the run. ``finish`` evaluates it, draws its figures and writes its report.

    Raises InputError if the model cannot be represented or does not fit the images, and FileExistsError if the
    directory is in use.
    """
    package = package.replace("-", "_")
    path = check_path(source, "a model")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    found: Converted = registry.load("converters", package).convert(path)
    place = recipes.check_place(data)
    overrides = recipes.check_overrides(set)
    recipe = _make_recipe(found, name, overrides, package, place)
    images = load_images(recipe, place)
    if images.train.image_shape != found.image_shape:
        wanted, given = ("×".join(map(str, shape)) for shape in (found.image_shape, images.train.image_shape))
        message = f"{source} is a model of images of {wanted} (channels×height×width); those of {name} are {given}"
        raise InputError(message, subject="data", value=images.train.image_shape)
    target = Run.at(unique_path(RUNS / package) if run is None else run)
    if target.exists:
        raise FileExistsError(f"{target.path} already contains a run; choose another --run")
    target.check_free()
    resolved = recipe.resolve(found.image_shape, len(images.train), images.train.resolved)
    vae = _load_weights(found, resolved, images, source)
    command = ["vaelab", "convert", str(source), str(name), "--from", package]
    command += [word for key, value in overrides.items() for word in ("--set", f"{key}={format_value(value)}")]
    data_sha256 = images.train.fingerprint()
    machine: dict[str, Any] = {
        "recipe": resolved.name,
        "command": shlex.join([*command, *(["--data", str(data)] if data else [])]),
        **describe_machine(torch.device("cpu")),
        "data_dir": str(place.resolve()) if place else None,
        "data": images.train.source,
        "data_sha256": data_sha256,
        "validated_on": images.valid_split,
        "notes": [*images.train.notes, *images.train.warnings, *found.notes, TRAINED_ELSEWHERE],
    }
    with target.locked():
        target.begin(resolved, machine, images.selections)
        if target.path.parent == RUNS:
            target.list_in_index(machine["command"])
        target.save_model(
            {**vae.state_dict(), CONDITION_ROWS: vae.condition_rows},
            describe_weights(resolved, vae, data_sha256, step=0),
        )
    return target


def _make_recipe(
    found: Converted, name: str | Path, overrides: Mapping[str, Any], title: str, place: Path | None
) -> Recipe:
    """Return the recipe of the images with the sections of the model, and the overrides."""
    of_images = {key: value for key, value in overrides.items() if key.startswith("data.")}
    others = {key: value for key, value in overrides.items() if key not in of_images}
    tables = recipes.load(name, of_images, place).sections()
    kept = {section: tables[section] for section in ("data", "training")}
    return recipes.validate(recipes.merge({"title": found.title, **kept, **found.sections}, others), title)


def _load_weights(found: Converted, recipe: ResolvedRecipe, images: RunImages, source: AnyPath) -> VAE:
    """Return the model of a recipe with the converted weights; InputError if an override makes them not fit."""
    vae, _ = build(recipe)
    vae.condition_rows = training_rows(vae.spec, images.train)
    try:
        vae.load_state_dict(found.tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"{source}: its weights do not fit the recipe ({reason})", subject="set") from None
    return vae.eval()
