"""The directory, the command and the size of a run; ``vaelab train --dry-run``."""

import hashlib
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch

from vaelab import recipe as recipes
from vaelab.api.estimate import measure_step
from vaelab.api.extend import lengthen
from vaelab.api.resolve import find_device
from vaelab.api.run_images import check_selection, load_images, num_set_aside, published_sizes, validation_split
from vaelab.api.short_forms import ShortFormsAndSeed, merge_short_forms
from vaelab.api.start import read_start
from vaelab.build import beta_equivalents, build
from vaelab.data.datasets import load_dataset
from vaelab.recipe import Recipe
from vaelab.run import Run
from vaelab.system import hub
from vaelab.system.arguments import check_path
from vaelab.system.errors import UsageError
from vaelab.system.files import fit_name

LENGTH_KEYS = ("training.epochs", "training.steps")
"""Overrides that an extension changes."""


MAX_WORDS = 40
"""Characters of the overrides in the name of a run; if there are more, a digest stands for them."""


def run_directory(recipe_name: str, overrides: Mapping[str, Any]) -> Path:
    """Return ``runs/RECIPE`` with the overrides appended, without their sections, such as ``runs/mnist-beta=4``.

    A digest stands for many overrides; ``runs/index`` then tells which they are.
    """
    short = _shorten(overrides)
    words = run_name(recipe_name, short)
    if len(words) - len(recipe_name) > MAX_WORDS:
        digest = hashlib.sha256(run_name(recipe_name, overrides).encode("utf-8", "surrogateescape")).hexdigest()
        words = run_name(f"{recipe_name}-{digest[:6]}", {})
    return Path("runs") / fit_name(words)


def _shorten(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides by the last part of their key, the section for a name; by the whole key if two are the same."""
    words = {key: key.removesuffix(".name") if key.endswith(".name") else key.rpartition(".")[2] for key in overrides}
    common = [word for word, count in Counter(words.values()).items() if count > 1]
    return {key if words[key] in common else words[key]: value for key, value in overrides.items()}


def choose_run(recipe_name: str, overrides: Mapping[str, Any], run: str | Path | None, *, extend: bool) -> Run:
    """Return the run to train; with ``extend`` an existing one, whose default name does not contain the new length.

    Raises FileNotFoundError if there is no run to extend, and UsageError for a model on the hub.
    """
    if run is not None and (address := hub.parse_address(check_path(run, "run"))):
        raise UsageError(f"{address} cannot be trained; --run names a directory", subject="run", value=run)
    if not extend:
        return Run.at(run or run_directory(recipe_name, overrides))
    return Run(run or run_directory(recipe_name, {key: v for key, v in overrides.items() if key not in LENGTH_KEYS}))


def run_name(recipe_name: str, overrides: Mapping[str, Any]) -> str:
    """Return a name, of any length, from the recipe and the overrides."""
    parts = [recipe_name, *(f"{key}={format_value(value)}" for key, value in sorted(overrides.items()))]
    words = "-".join(part.replace("/", "_").replace("\\", "_").replace(" ", "") for part in parts)
    return "".join("_" if unicodedata.category(character) == "Cc" else character for character in words)


def command(
    name: str | Path, overrides: Mapping[str, Any], data: str | Path | None, run: str | Path | None, device: str
) -> str:
    """Return the command line that is equivalent to ``train`` with these arguments."""
    words = ["vaelab", "train", str(name)]
    for key, value in overrides.items():
        words += ["--set", f"{key}={format_value(value)}"]
    words += ["--data", str(data)] if data else []
    words += ["--run", str(run)] if run else []
    words += ["--device", device] if device != "auto" else []
    return shlex.join(words)


def format_value(value: Any) -> str:
    """Return a value as ``--set`` reads it."""
    return value if isinstance(value, str) else recipes.toml_value(value)


def plan(
    name: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    run: str | Path | None = None,
    device: str = "auto",
    timed: bool = False,
    extend: bool = False,
    **short: Unpack[ShortFormsAndSeed],
) -> dict[str, Any]:
    """Return what ``train`` with these arguments would do, without training or downloading anything.

    Keys: recipe, run, state ("new", "resumes", "extends" or "done"), images of each split, image_shape, steps,
    parameters of each part, equivalents (β in the conventions of other papers). ``timed`` adds seconds: an estimate of
    the time of the remaining steps on ``device``, from a few steps on random images.
    """
    overrides = merge_short_forms(set, short)
    data = recipes.check_place(data)
    recipe = recipes.load(name, overrides, data)
    target = choose_run(recipe.name, overrides, run, extend=extend)
    if target.exists and extend:
        recipe = lengthen(target, recipe)
        extend = "ended_at" in target.machine or bool(target.recipe.differences(recipe))
    elif target.exists:
        target.check_same(recipe)
    target.check_free()
    shape, counts, resolved = _sizes(recipe, data)
    recipe = recipe.resolve(shape, counts["train"], resolved)
    with torch.device("meta"):
        vae, _ = build(recipe)
    if recipe.training.start_from and not target.exists:
        read_start(recipe.training.start_from, vae)  # raises if it cannot
    state = (
        "extends"
        if target.exists and extend
        else "done"
        if target.is_finished
        else "resumes"
        if target.exists
        else "new"
    )
    place = find_device(device, target)
    timing: dict[str, Any] = {}
    if timed:
        left = 0 if state == "done" else recipe.num_steps - target.checkpoints.newest_step
        timing = {"seconds": left and left * measure_step(recipe, place), "device": str(place)}
    return {
        "recipe": recipe,
        "run": target,
        "state": state,
        "images": counts,
        "image_shape": shape,
        "steps": recipe.num_steps,
        "parameters": vae.num_parameters,
        "equivalents": beta_equivalents(recipe, vae.spec),
        **timing,
    }


def _sizes(recipe: Recipe, data_dir: Path | None) -> tuple[tuple[int, int, int], dict[str, int], Mapping[str, Any]]:
    """Return the image shape, the number of images of each split and the resolved options of the data set.

    They are those of the files, or the published ones if there are no files yet.
    """
    dataset = load_dataset(recipe.data["name"])
    published = published_sizes(recipe)
    if published is not None and data_dir is None and dataset.find and dataset.find(None) is None:
        shape, counts = published
        aside = num_set_aside(recipe)
        if aside:
            return shape, {"train": counts["train"] - aside, validation_split(recipe): aside}, {}
        check_selection(recipe)
        if validation_split(recipe) in counts:
            return shape, {split: counts[split] for split in ("train", validation_split(recipe))}, {}
    images = load_images(recipe, data_dir)
    counts = {"train": len(images.train), images.valid_split: len(images.valid)}
    return images.train.image_shape, counts, images.train.resolved
