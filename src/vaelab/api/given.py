"""Images that a program passes to ``train``, and the copy that the run keeps of them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from vaelab.api.run_images import load_run_images
from vaelab.data.array_cache import is_same_as_kept, keep_images, open_kept
from vaelab.data.cache import verify_entry
from vaelab.data.images import Images
from vaelab.data.memory import ArrayOptions, read_memory
from vaelab.recipe import Recipe
from vaelab.run import IMAGES, Run
from vaelab.system.errors import InputError, UsageError
from vaelab.system.files import DamagedFile

DATASET = "arrays"
"""The data set that loads the copy."""


@dataclass(frozen=True)
class GivenImages:
    """The arguments ``images``, ``labels``, ``attributes`` and ``valid`` of ``train``, not read yet."""

    images: Any
    labels: Any = None
    attributes: Any = None
    valid: Any = None
    """A number of images to set aside, or held-out images, alone or with their labels and attributes as a tuple."""

    def override(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the overrides of a recipe with those that make it a recipe for these images."""
        named = overrides.get("data.name", DATASET)
        if named != DATASET:
            message = f'data.name = {named}: images from memory are the data set "{DATASET}"; leave data.name out'
            raise UsageError(message, subject="data.name", value=named)
        if self.valid is not None and "data.valid" in overrides:
            raise UsageError("valid and data.valid are both given; give one of them", subject="valid")
        aside = {"data.valid": int(self.valid)} if self._sets_aside else {}
        return {"data.name": DATASET, **overrides, **aside}

    @property
    def _sets_aside(self) -> bool:
        return isinstance(self.valid, Integral) and not isinstance(self.valid, bool)

    def keep(self, run: Run, recipe: Recipe) -> None:
        """Write a copy of the images into a run, or check that it was trained on the same ones.

        Raises InputError for images that cannot be used, or that are not those of a run that was begun.
        """
        given, folder = self._read(recipe), run.path / IMAGES
        if run.exists and all(_is_intact(folder / name) for name in given):
            if not all(is_same_as_kept(folder / name, images) for name, images in given.items()):
                raise InputError(_advise(run), subject="images", value=given["train"].source)
            return
        if not run.exists and folder.exists():
            shutil.rmtree(folder)
        for name, images in given.items():
            keep_images(folder / name, images)
        if run.exists:
            try:
                load_run_images(run, folder)
            except InputError:
                shutil.rmtree(folder)
                raise InputError(_advise(run), subject="images", value=given["train"].source) from None

    def _read(self, recipe: Recipe) -> dict[str, Images]:
        """Return the training images and, if there are any, the held-out ones."""
        given = options_of(recipe)
        train = read_memory(self.images, self.labels, self.attributes, given)
        train = replace(train, resolved={"axes": "NHWC", "range": "full", **train.resolved})
        if self.valid is None or self._sets_aside:
            return {"train": train}
        held_out, labels, attributes = _split_valid(self.valid)
        same = replace(given, range=train.resolved["range"])
        shape, names = train.image_shape, train.label_names
        test = read_memory(held_out, labels, attributes, same, shape, "valid", label_names=names)
        return {"train": train, "test": replace(test, split_name="valid")}


def options_of(recipe: Recipe) -> ArrayOptions:
    """Return how arrays are read for a recipe; a run's recipe gives the options that its images were read with."""
    options = {key: recipe.data[key] for key in ("axes", "range", "size") if key in recipe.data}
    return ArrayOptions(**options) if recipe.data["name"] == DATASET else ArrayOptions()


def _split_valid(valid: Any) -> tuple[Any, Any, Any]:
    is_several = isinstance(valid, tuple) and 1 < len(valid) <= 3 and getattr(valid[0], "shape", (0,))[1:] != ()
    images, labels, attributes = (*valid, None, None)[:3] if is_several else (valid, None, None)
    return images, labels, attributes


def _is_intact(folder: Path) -> bool:
    try:
        verify_entry(folder)
    except (FileNotFoundError, DamagedFile):
        return False
    return open_kept(folder) is not None


def _advise(run: Run) -> str:
    return f"{run.path} was trained on other images; pass those, or choose another run=…"
