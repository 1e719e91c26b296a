"""The images of a recipe or a run, and the verbs of ``vaelab data``."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.data.cache import set_aside, verify_cached
from vaelab.data.images import Binarize, Images, ImagesNotFound, binarize, split_off
from vaelab.data.picture_cache import select_earlier
from vaelab.recipe import Recipe
from vaelab.run import Run
from vaelab.system import registry as catalog
from vaelab.system.arguments import check_path
from vaelab.system.files import DamagedFile, check_file
from vaelab.system.progress import say

AS_EVER = {"range": "full", "pages": "first"}
"""Values that protocols do not mention, since numbers were measured before these options were there."""
NO_PROTOCOL = ("strict", "max_pixels", "train", "valid", "test")
"""Options of a data set that do not change how an image looks; the split is told by its name."""
Selections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class DataOfRun:
    """Training images, images to validate on, and which those are."""

    train: Images
    valid: Images
    valid_split: str
    binarize: Binarize
    data: dict[str, Any]
    """The data set's name and the options that shape its images, such as the crop."""
    selections: Selections = field(default_factory=dict)
    """Split → what ``reload`` of the data set needs to find the same images again."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Which held-out images numbers are measured on, how they were framed and binarised."""
        seed = {"binarize_seed": 0} if self.binarize == "dynamic" else {}
        return {**self.data, "split": self.valid_split, "binarize": self.binarize, **seed}


def validation_split(recipe: Recipe) -> str:
    """What a recipe validates on: images set aside from train, else the published valid split, else test."""
    if num_set_aside(recipe):
        return f"{num_set_aside(recipe)} images set aside from train"
    return "valid" if "valid" in catalog.load("datasets", recipe.data["name"]).INFO.splits else "test"


def num_set_aside(recipe: Recipe) -> int:
    """How many training images are set aside to validate on; 0 if ``data.valid`` names a folder or nothing."""
    return recipe.data["valid"] if isinstance(recipe.data["valid"], int) else 0


def published_facts(recipe: Recipe) -> tuple[tuple[int, int, int], dict[str, int]] | None:
    """Image shape and images of each split as the data set's authors published them; None where nobody did."""
    module = catalog.load("datasets", recipe.data["name"])
    counts = {split: count for split, count in module.INFO.splits.items() if count is not None}
    shape = module.shape(**recipes.load_options(recipe)) if hasattr(module, "shape") else module.INFO.image_shape
    return (shape, counts) if shape is not None and counts else None


def load_data(
    recipe: Recipe, data_dir: Path | None, selections: Selections | None = None, *, verify: bool = False
) -> DataOfRun:
    """The images of a recipe. ``threshold`` is applied to all; ``dynamic`` to the validation images alone, once.

    ``selections``: those of an earlier call, whose images are wanted again; ImagesNotFound if they are gone. With
    ``verify`` every cache entry is read to its end and compared with its checksums, and a damaged one is made again.
    """
    if data_dir is not None and data_dir.exists() and not data_dir.is_dir():
        check_file(data_dir)
    module = catalog.load("datasets", recipe.data["name"])
    options, mode, split = recipes.load_options(recipe), recipe.data["binarize"], validation_split(recipe)
    if not num_set_aside(recipe) and split not in module.INFO.splits:
        module.load(data_dir, split, **options)  # raises: says how many to set aside before anything is cached

    def load_split(name: str) -> Images:
        images: Images = (
            module.reload(data_dir, name, selections, **options)
            if selections
            else module.load(data_dir, name, **options)
        )
        return images

    def load(name: str) -> Images:
        images = load_split(name)
        return verified(images, lambda: load_split(name)) if verify else images

    train = load("train")
    loaded = {"train": train}
    if aside := num_set_aside(recipe):
        train, valid = split_off(train, aside)
    else:
        loaded[split] = valid = load(split)
        notes, warnings = (
            dict.fromkeys((*a, *b)) for a, b in ((train.notes, valid.notes), (train.warnings, valid.warnings))
        )
        train = replace(train, notes=tuple(notes), warnings=tuple(warnings))
    shaping = {k: v for k, v in {**options, **train.resolved}.items() if k not in NO_PROTOCOL and AS_EVER.get(k) != v}
    return DataOfRun(
        train=train if mode == "dynamic" else binarize(train, mode),
        valid=binarize(valid, mode),
        valid_split=valid.split_name or split,
        binarize=mode,
        data={"data": recipe.data["name"], **shaping},
        selections={name: images.selection for name, images in loaded.items() if images.selection},
    )


def verified(images: Images, load: Callable[[], Images]) -> Images:
    """``images``, verified against their cache entry; a damaged one is made again by ``load``, with a note.

    DamagedFile if it cannot be made again; then the damaged cache entry stays where it was.
    """
    if images.cache_folder is None:
        return images
    folder = images.cache_folder
    try:
        verify_cached(folder)
        return images
    except FileNotFoundError:  # another process is making it again
        return verified(load(), load)
    except DamagedFile as error:
        damage = error
    del images
    aside = set_aside(folder)
    try:
        again = load()
    except (OSError, ValueError) as error:
        if aside is not None:
            aside.replace(folder)
        remedy = "bring the pictures back to where they lay, or remove the cache entry"
        raise DamagedFile(damage.path, f"{damage.reason}, and it cannot be made again ({error})", remedy) from None
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(
        again, notes=(*again.notes, f"{damage.path} was damaged: {damage.reason}; the cache entry was made again")
    )


def data_of(run: Run, data: str | Path | None, tell: Callable[[str], None] = say, *, verify: bool = False) -> DataOfRun:
    """The images that ``run`` was trained and validated on, from ``data`` or from where they lay then.

    Pictures that were added since are left out, and those that are gone come from the cache; ``tell`` gets a sentence
    that says so. ``verify``: as in ``load_data``. ValueError if the images of the run cannot be found.
    """
    data = recipes.check_place(data)
    place = data if data else Path(run.machine["data_dir"]) if run.machine.get("data_dir") else None
    selections = run.selections
    if place is not None and not place.exists() and (data or not selections):
        raise FileNotFoundError(
            f"{place}: the images of {run.path} lay here and do no more; name their place with --data"
        )
    try:
        images: DataOfRun | None = load_data(run.recipe, place, selections, verify=verify)
        assert images is not None
        reason = (
            f"the images in {images.train.source} are not those that {run.path} was trained on; name those with --data"
        )
    except ImagesNotFound as error:
        images, reason = None, f"{run.path}: {error}"
        if data:  # the same pictures under other names will do
            with suppress(ValueError, OSError):
                images = load_data(run.recipe, place, verify=verify)
    wanted = run.machine.get("data_sha256")
    if images is not None and wanted and images.train.fingerprint() != wanted:
        earlier = select_earlier(images.train, wanted)
        images = None if earlier is None else replace(images, train=earlier)
    if images is None:
        raise ValueError(f"{reason}, or train into another --run")
    for sentence in images.train.warnings if selections else ():
        tell(sentence)
    return images


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Name, facts and whereabouts of every data set."""
    data_dir = None if data_dir is None else check_path(data_dir, "data_dir")
    rows = []
    for name in catalog.names("datasets"):
        module = catalog.load("datasets", name)
        about = module.INFO
        rows.append(
            {
                "name": name,
                "title": about.title,
                "images": dict(about.splits),
                "shape": list(about.image_shape) if about.image_shape else None,
                "licence": about.licence,
                "source": about.source,
                "terms": about.terms,
                "place": _place(module, data_dir),
            }
        )
    return rows


def _place(module: Any, data_dir: Path | None) -> str:
    """Where the files of a data set lie."""
    if not module.INFO.files:
        return "comes with vaelab"
    found = module.find(data_dir) if hasattr(module, "find") else None
    if not any(module.INFO.splits.values()):
        return str(found) if found else "name it with --data"
    return str(found) if found else "not here yet"


def data_terms(name: str) -> str:
    """What a person should know before downloading a data set."""
    terms: str = catalog.load("datasets", name).INFO.terms
    return terms


def get_data(name: str, target: Path | None = None) -> Path | None:
    """Download a data set to ``target`` or the cache; None for one that needs no files."""
    module = catalog.load("datasets", name)
    target = None if target is None else check_path(target, "target")
    if not module.INFO.files:
        return None
    folder: Path = module.get(target)
    return folder


def check_data(path: Path) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(data set, folder, [(file, "ok" … or what is wrong)]) for every folder with a data set's files at ``path``.

    Where several data sets have files of these names, the one is meant whose published digests match most of them, else
    the one whose name the folder bears.
    """
    path = check_path(path, "path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        check_file(path)
    found = _found_at(path)
    if not found:
        known = ", ".join(
            name for name in catalog.names("datasets") if hasattr(catalog.load("datasets", name), "check")
        )
        raise FileNotFoundError(f"{path}: no data set that vaelab can check here, and no pictures (it knows {known})")
    folders: dict[Path, dict[str, list[tuple[str, str]]]] = {}
    for name, folder in found.items():
        folders.setdefault(folder, {})[name] = list(catalog.load("datasets", name).check(folder))
    results = []
    for folder, claims in folders.items():
        here = str(folder).lower()
        name = max(claims, key=lambda name: _strength(claims[name], name in here))
        results.append((name, str(folder), claims[name]))
    return results


def _found_at(path: Path) -> dict[str, Path]:
    """Data set → where its files lie at ``path``; a person's own pictures only where there is no other."""
    found: dict[bool, dict[str, Path]] = {True: {}, False: {}}
    for name in catalog.names("datasets"):
        module = catalog.load("datasets", name)
        is_published = any(module.INFO.splits.values())
        if hasattr(module, "check") and (is_published or not found[True]):
            place = module.find(path)
            if place is not None:
                found[is_published][name] = place
    return found[True] or found[False]


def describe_data(path: Path, set: Mapping[str, Any] | None = None) -> tuple[list[str], list[str]]:
    """Sentences and warnings about the splits and classes that a training would find at ``path``.

    Both are empty for a published data set. ``set``: options of the data set by dotted key, such as data.test.
    """
    found = _found_at(path)
    module = catalog.load("datasets", next(iter(found), "folder"))
    if not hasattr(module, "describe_layout"):
        return [], []
    recipe = recipes.validate(recipes.merge({"data": {"name": next(iter(found), "folder")}}, set or {}), "check")
    described: tuple[list[str], list[str]] = module.describe_layout(path, **recipes.load_options(recipe))
    return described


def cache_data(path: Path, name: str | None = None, set: Mapping[str, Any] | None = None) -> DataOfRun:
    """The images at ``path`` as a training would load them, decoded once into the cache for it.

    ``name``: the data set (default: what lies there, else a person's own pictures); ``set``: its options by dotted key.
    """
    path = check_path(path, "path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        check_file(path)
    chosen = name or next(iter(_found_at(path)), "folder")
    table: dict[str, Any] = {"name": chosen}
    if catalog.load("datasets", chosen).INFO.splits.keys() == {"train"}:
        table["valid"] = 1  # nothing else to load beside it
    return load_data(recipes.validate(recipes.merge({"data": table}, set or {}), "cache"), path, verify=True)


def _strength(verdicts: list[tuple[str, str]], is_named: bool) -> tuple[int, bool, int]:
    """How well files fit a data set: digests that match, then the folder's name, then what could not be compared."""
    words = [verdict for _, verdict in verdicts]
    return words.count("ok"), is_named, sum(word.startswith("ok") for word in words)
