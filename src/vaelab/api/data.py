"""``vaelab data``: list, download, check and cache data sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.api.run_images import RunImages, load_images
from vaelab.system import registry
from vaelab.system.arguments import check_path
from vaelab.system.files import check_file


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Return name, facts and folder of every data set."""
    data_dir = None if data_dir is None else check_path(data_dir, "data_dir")
    rows = []
    for name in registry.names("datasets"):
        module = registry.load("datasets", name)
        info = module.INFO
        rows.append(
            {
                "name": name,
                "title": info.title,
                "images": dict(info.splits),
                "shape": list(info.image_shape) if info.image_shape else None,
                "licence": info.licence,
                "source": info.source,
                "terms": info.terms,
                "place": _describe_place(module, data_dir),
            }
        )
    return rows


def _describe_place(module: Any, data_dir: Path | None) -> str:
    """Return the folder of a data set's files, or a phrase where there is none."""
    if not module.INFO.files:
        return "comes with vaelab"
    found = module.find(data_dir) if hasattr(module, "find") else None
    if not any(module.INFO.splits.values()):
        return str(found) if found else "name it with --data"
    return str(found) if found else "not here yet"


def get_data(name: str, target: Path | None = None) -> Path | None:
    """Download a data set to ``target`` or the cache; return its folder, or None for one that needs no files."""
    module = registry.load("datasets", name)
    target = None if target is None else check_path(target, "target")
    folder: Path | None = module.get(target) if module.INFO.files else None
    return folder


@dataclass(frozen=True)
class DataCheck:
    """The result of ``check_data`` for the data set in one folder."""

    name: str
    folder: Path
    files: list[tuple[str, str]]
    """(File, verdict); a verdict starts with "ok" or says what is wrong."""
    notes: list[str]
    """The splits and classes that a training would use; empty for a published data set."""
    warnings: list[str]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong with any file."""
        return all(verdict.startswith("ok") for _, verdict in self.files)


def check_data(path: Path, set: Mapping[str, Any] | None = None) -> list[DataCheck]:
    """Check the files of every data set at ``path``, one result for each folder.

    A folder's files may fit several data sets. The one with the most matching published digests is then checked, else
    the one that the folder is named after. ``set``: options of the data set by dotted key, such as "data.test".
    """
    path = check_path(path, "path")
    by_folder: dict[Path, dict[str, list[tuple[str, str]]]] = {}
    for name, folder in _find_data(path).items():
        by_folder.setdefault(folder, {})[name] = list(registry.load("datasets", name).check(folder))
    if not by_folder:
        known = [name for name in registry.names("datasets") if hasattr(registry.load("datasets", name), "check")]
        raise FileNotFoundError(f"{path}: no pictures and no files of a data set (looked for {', '.join(known)})")
    checks = []
    for folder, verdicts in by_folder.items():
        name = max(verdicts, key=lambda name: _rank_match(verdicts[name], name in str(folder).lower()))
        module, notes, warnings = registry.load("datasets", name), list[str](), list[str]()
        if hasattr(module, "describe_layout"):
            notes, warnings = module.describe_layout(path, **recipes.load_options(_make_recipe(name, set)))
        checks.append(DataCheck(name, folder, verdicts[name], notes, warnings))
    return checks


def cache_data(path: Path, name: str | None = None, set: Mapping[str, Any] | None = None) -> RunImages:
    """Decode the images at ``path`` into the cache, as the first training on them would, and return them.

    ``name``: the data set (default: the one found at ``path``). ``set``: its options by dotted key.
    """
    path = check_path(path, "path")
    name = next(iter(_find_data(path)), "folder") if name is None else name
    only_train = registry.load("datasets", name).INFO.splits.keys() == {"train"}
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
        module = registry.load("datasets", name)
        is_published = any(module.INFO.splits.values())
        if hasattr(module, "check") and (is_published or not found[True]):
            place = module.find(path)
            if place is not None:
                found[is_published][name] = place
    return found[True] or found[False]


def _rank_match(verdicts: list[tuple[str, str]], is_named: bool) -> tuple[int, bool, int]:
    """Rank how well files fit a data set: by matching digests, then the folder's name, then readable files."""
    words = [verdict for _, verdict in verdicts]
    return words.count("ok"), is_named, sum(word.startswith("ok") for word in words)
