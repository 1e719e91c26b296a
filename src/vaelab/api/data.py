"""``vaelab data``: list, download, check and cache data sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.api.run_images import RunImages, load_images
from vaelab.data.datasets import Dataset, load_dataset
from vaelab.system import registry
from vaelab.system.arguments import check_path
from vaelab.system.errors import InputError
from vaelab.system.files import check_file


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Return the name, a description and the folder of every data set."""
    data_dir = None if data_dir is None else check_path(data_dir, "data_dir")
    rows = []
    for name in registry.names("datasets"):
        dataset = load_dataset(name)
        info = dataset.info
        rows.append(
            {
                "name": name,
                "title": info.title,
                "images": dict(info.splits),
                "shape": list(info.image_shape) if info.image_shape else None,
                "licence": info.licence,
                "source": info.source,
                "terms": info.terms,
                "place": _describe_place(dataset, data_dir),
            }
        )
    return rows


def _describe_place(dataset: Dataset, data_dir: Path | None) -> str:
    """Return the folder of a data set's files, or a phrase where there is none."""
    if not dataset.info.files:
        return "comes with vaelab"
    found = dataset.find(data_dir) if dataset.find else None
    if not dataset.info.is_published:
        return str(found) if found else "name it with --data"
    return str(found) if found else "not here yet"


def get_data(name: str, target: Path | None = None) -> Path | None:
    """Download a data set to ``target`` or the cache; return its folder, or None for one that needs no files."""
    dataset = load_dataset(name)
    target = None if target is None else check_path(target, "target")
    if not dataset.info.files:
        return None
    if dataset.get is None:
        raise InputError(
            f"vaelab does not download the data set {name}. {dataset.info.instructions}", subject="name", value=name
        )
    return dataset.get(target)


@dataclass(frozen=True)
class DataCheck:
    """The result of ``check_data`` for the data set in one folder."""

    name: str
    folder: Path
    files: list[tuple[str, str]]
    """(File, verdict); a verdict starts with "ok" or says what is wrong."""
    notes: list[str]
    """The splits and classes that training would use; empty for a published data set."""
    warnings: list[str]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong with any file."""
        return all(verdict.startswith("ok") for _, verdict in self.files)


def check_data(path: Path, set: Mapping[str, Any] | None = None) -> list[DataCheck]:
    """Check the files of every data set at ``path``, with one result per folder.

    If a folder may contain several data sets, the one with the most matching published digests is checked, else the one
    that the folder is named after. ``set``: options of the data set by dotted key, such as "data.test".
    """
    path = check_path(path, "path")
    found = _find_data(path)
    if not found:
        known = [name for name in registry.names("datasets") if load_dataset(name).check]
        raise FileNotFoundError(f"{path}: no images and no files of a data set (looked for {', '.join(known)})")
    layouts = {name: _describe_layout(name, path, set) for name in found}  # refuses wrong options before decoding
    by_folder: dict[Path, dict[str, list[tuple[str, str]]]] = {}
    for name, folder in found.items():
        check = load_dataset(name).check
        assert check is not None
        by_folder.setdefault(folder, {})[name] = list(check(folder))
    checks = []
    for folder, verdicts in by_folder.items():
        name = max(verdicts, key=lambda name: _rank_match(verdicts[name], name in str(folder).lower()))
        checks.append(DataCheck(name, folder, verdicts[name], *layouts[name]))
    return checks


def _describe_layout(name: str, path: Path, set: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return notes and warnings about splits and classes; both are empty for a published data set."""
    describe, recipe = load_dataset(name).describe_layout, _make_recipe(name, set)
    return describe(path, **recipes.load_options(recipe)) if describe else ([], [])


def cache_data(path: Path, name: str | None = None, set: Mapping[str, Any] | None = None) -> RunImages:
    """Decode the images at ``path`` into the cache, as the first training run would, and return them.

    ``name``: the data set (default: the one found at ``path``). ``set``: its options by dotted key.
    """
    path = check_path(path, "path")
    name = next(iter(_find_data(path)), "folder") if name is None else name
    only_train = load_dataset(name).info.splits.keys() == {"train"}
    recipe = _make_recipe(name, {**({"data.valid": 1} if only_train else {}), **(set or {})})
    return load_images(recipe, path, verify=True)


def _make_recipe(name: str, set: Mapping[str, Any] | None) -> recipes.Recipe:
    return recipes.validate(recipes.merge({"data": {"name": name}}, set or {}), name)


def _find_data(path: Path) -> dict[str, Path]:
    """Return the data sets with files at ``path`` and their folders; the user's own pictures only if nothing else."""
    if not path.is_dir():
        check_file(path)
    found: dict[bool, dict[str, Path]] = {True: {}, False: {}}
    for name in registry.names("datasets"):
        dataset = load_dataset(name)
        is_published = dataset.info.is_published
        if dataset.check and dataset.find and (is_published or not found[True]):
            place = dataset.find(path)
            if place is not None:
                found[is_published][name] = place
    return found[True] or found[False]


def _rank_match(verdicts: list[tuple[str, str]], is_named: bool) -> tuple[int, bool, int]:
    """Rank how well files fit a data set: by matching digests, then the folder's name, then readable files."""
    words = [verdict for _, verdict in verdicts]
    return words.count("ok"), is_named, sum(word.startswith("ok") for word in words)
