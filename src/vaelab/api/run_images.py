"""The training and validation images of a recipe or a run."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.data.cache import select_earlier, set_aside, verify_entry
from vaelab.data.datasets import Selections, load_dataset
from vaelab.data.images import Binarize, Images, ImagesNotFound, binarize, split_off
from vaelab.recipe import Recipe
from vaelab.run import IMAGES, Run
from vaelab.system.errors import InputError, RecipeError, UnknownName
from vaelab.system.files import DamagedFile, check_file
from vaelab.system.messages import warn

UNRECORDED_VALUES = {"range": "full", "pages": "first", "size": "auto"}
"""Default values of options added later; a protocol records only other values, so that old results still compare."""
UNRECORDED_OPTIONS = (
    "strict",
    "max_pixels",
    "train",
    "valid",
    "test",
    "axes",
    "images",
    "labels",
    "table",
    "file_name",
    "label",
)
"""Options of a data set that do not change how an image looks; the protocol names the split itself."""


@dataclass(frozen=True)
class RunImages:
    """The images that a recipe trains and validates on."""

    train: Images
    valid: Images
    valid_split: str
    binarize: Binarize
    dataset: dict[str, Any]
    """Name of the data set (key ``data``) and the options that shape its images, such as the crop."""
    selections: Selections = field(default_factory=dict)
    """Split → arguments with which the data set's ``reload`` finds the same images again."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Data set, options, split and binarisation of the validation images, recorded with every result."""
        seed = {"binarize_seed": 0} if self.binarize == "dynamic" else {}
        return {**self.dataset, "split": self.valid_split, "binarize": self.binarize, **seed}


def validation_split(recipe: Recipe) -> str:
    """Return the split to validate on: images set aside from train, else the published valid split, else test."""
    if num_set_aside(recipe):
        return f"{num_set_aside(recipe)} images set aside from train"
    return "valid" if "valid" in load_dataset(recipe.data["name"]).info.splits else "test"


def check_selection(recipe: Recipe, split_name: str = "") -> None:
    """Raise RecipeError if training would choose its weights by a test split, published or a folder of that name."""
    is_published = load_dataset(recipe.data["name"]).info.splits.get("test") is not None
    is_test = split_name == "test" or (is_published and validation_split(recipe) == "test")
    if is_test and (patience := recipe.training.patience):
        what = "the held-out images choose the weights, and these are the test split"
        message = f"training.patience = {patience}: {what}; set images aside, such as data.valid=1000"
        raise RecipeError(message, subject="training.patience", value=patience)


def num_set_aside(recipe: Recipe) -> int:
    """Return the number of training images set aside for validation; 0 if ``data.valid`` names a folder."""
    return recipe.data["valid"] if isinstance(recipe.data["valid"], int) else 0


def published_sizes(recipe: Recipe) -> tuple[tuple[int, int, int], dict[str, int]] | None:
    """Return the image shape and the published size of each split; None for a data set without published sizes."""
    dataset = load_dataset(recipe.data["name"])
    options = recipes.load_options(recipe)
    splits = dataset.counts(**options) if dataset.counts else dataset.info.splits
    counts = {split: count for split, count in splits.items() if count is not None}
    shape = dataset.shape(**options) if dataset.shape else dataset.info.image_shape
    return (shape, counts) if shape is not None and counts else None


def load_images(
    recipe: Recipe, data_dir: Path | None, selections: Selections | None = None, *, verify: bool = False
) -> RunImages:
    """Load the images of a recipe.

    Binarisation by "threshold" applies to all images, "dynamic" only to the validation images, which are binarised
    once. ``selections``: those of an earlier call, to load the same images, or ImagesNotFound is raised. ``verify``:
    compare cached images with their checksums and decode them again if they are damaged.
    """
    if data_dir is not None and data_dir.exists() and not data_dir.is_dir():
        check_file(data_dir)
    dataset = load_dataset(recipe.data["name"])
    options, mode, split = recipes.load_options(recipe), recipe.data["binarize"], validation_split(recipe)
    if not num_set_aside(recipe) and split not in dataset.info.splits:
        dataset.load(data_dir, split, **options)  # raises before anything is decoded: says how many to set aside

    def load_split(name: str) -> Images:
        if selections and dataset.reload:
            return dataset.reload(data_dir, name, selections, **options)
        return dataset.load(data_dir, name, **options)

    def load(name: str) -> Images:
        images = load_split(name)
        return verify_images(images, lambda: load_split(name)) if verify else images

    train = load("train")
    loaded = {"train": train}
    if aside := num_set_aside(recipe):
        train, valid = split_off(train, aside)
    else:
        loaded[split] = valid = load(split)
        notes = tuple(dict.fromkeys((*train.notes, *valid.notes)))
        warnings = tuple(dict.fromkeys((*train.warnings, *valid.warnings)))
        train = replace(train, notes=notes, warnings=warnings)
    check_selection(recipe, valid.split_name)
    recorded = {
        key: value
        for key, value in {**options, **train.resolved}.items()
        if key not in UNRECORDED_OPTIONS and UNRECORDED_VALUES.get(key) != value
    }
    return RunImages(
        train=train if mode == "dynamic" else binarize(train, mode),
        valid=binarize(valid, mode),
        valid_split=valid.split_name or split,
        binarize=mode,
        dataset={"data": recipe.data["name"], **recorded},
        selections={name: images.selection for name, images in loaded.items() if images.selection},
    )


def load_other_split(run: Run, images: RunImages, data: str | Path | None, split: str) -> Images:
    """Return the images of any split of a run's data set, binarised as its held-out images are.

    ``images``: those that the run was trained and validated on. Your own images have the splits of their folder. Raises
    UsageError for a split that is not there, and InputError if its images have another shape.
    """
    if split == "train":
        return binarize(images.train, images.binarize)
    dataset, given = load_dataset(run.recipe.data["name"]), recipes.load_options(run.recipe)
    options = given | {key: value for key, value in images.train.resolved.items() if key in given}
    place = recipes.check_place(data) or find_place(run)
    if dataset.info.is_published:
        dataset.info.check_split(split)
        found = dataset.load(place, split, **options)
    elif split not in ("valid", "test") or split not in options:
        splits = ("train", images.valid_split)
        message = f"{dataset.info.title}: no split {split!r}. Valid: {', '.join(splits)}"
        raise UnknownName(message, subject="split", value=split, choices=splits)
    else:  # the folder of that name, in the place of the one to validate on
        named = options[split]
        folder = split if isinstance(named, int) or named in ("", "auto") else named
        found = dataset.load(place, "test", **{**options, "valid": folder})
    if found.image_shape != images.train.image_shape:
        own, others = ("×".join(map(str, each.image_shape)) for each in (found, images.train))
        raise InputError(f"the images of the split {split} are {own}, and those of the run {others}", subject="split")
    return binarize(found, images.binarize)


def verify_images(images: Images, load: Callable[[], Images]) -> Images:
    """Return ``images`` after verifying their cache; if it is damaged, call ``load`` to decode them again.

    Raises DamagedFile if they cannot be decoded again; the damaged cache then stays in place.
    """
    if images.cache_folder is None:
        return images
    folder = images.cache_folder
    try:
        verify_entry(folder)
        return images
    except FileNotFoundError:  # another process is decoding it again
        return verify_images(load(), load)
    except DamagedFile as error:
        damage = error
    del images
    aside = set_aside(folder)
    try:
        again = load()
    except (OSError, ValueError) as error:
        if aside is not None:
            aside.replace(folder)
        remedy = "put the images back, or remove the cache entry"
        raise DamagedFile(damage.path, f"{damage.reason}, and it cannot be rebuilt ({error})", remedy) from None
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    note = f"{damage.path} was damaged: {damage.reason}; the cache entry was rebuilt"
    return replace(again, notes=(*again.notes, note))


def find_place(run: Run) -> Path | None:
    """Return the place of a run's images: the copy that it keeps of images from memory, else the recorded one."""
    kept = run.path / IMAGES
    if kept.is_dir():
        return kept
    return Path(run.machine["data_dir"]) if run.machine.get("data_dir") else None


def load_run_images(
    run: Run, data: str | Path | None, tell: Callable[[str], None] = warn, *, verify: bool = False
) -> RunImages:
    """Load the images that ``run`` was trained and validated on, from ``data`` or from their recorded place.

    Pictures added since are left out; missing ones come from the cache. ``tell`` receives a sentence about either.
    ``verify``: as for ``load_images``. Raises InputError if the images cannot be found.
    """
    data = recipes.check_place(data)
    place = data or find_place(run)
    selections = run.selections
    if place is None and run.is_published and not load_dataset(run.recipe.data["name"]).info.is_published:
        message = f"{run.name} was trained on images of its author, which do not come with it; name them with --data"
        raise InputError(message, subject="data")
    if place is not None and not place.exists() and (data or not selections):
        remedy = "give the same ones again: vaelab.train(…, images=…)" if place.name == IMAGES else ""
        remedy = remedy or "pass their path with --data"
        raise FileNotFoundError(f"{place}: the images of {run.path} are no longer here; {remedy}")
    try:
        images: RunImages | None = load_images(run.recipe, place, selections, verify=verify)
        assert images is not None
        reason = (
            f"the images in {images.train.source} are not those that {run.path} was trained on; name those with --data"
        )
    except ImagesNotFound as error:
        images, reason = None, f"{run.path}: {error}"
        if data:  # the same pictures under other names are accepted
            with suppress(ValueError, OSError):
                images = load_images(run.recipe, place, verify=verify)
    wanted = run.data_sha256
    if images is not None and wanted and images.train.fingerprint() != wanted:
        earlier = select_earlier(images.train, wanted)
        images = None if earlier is None else replace(images, train=earlier)
    if images is None:
        raise InputError(f"{reason}, or train into another --run", subject="data", value=data)
    for sentence in images.train.warnings if selections else ():
        tell(sentence)
    return images
