"""The images of a recipe or a run, and the verbs of ``vaelab data``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab import catalog
from vaelab import recipe as recipes
from vaelab.images import Images, binarize, split_off
from vaelab.recipe import Recipe
from vaelab.run import Run


@dataclass(frozen=True)
class DataOfRun:
    """Training images, images to validate on, and which those are."""

    train: Images
    valid: Images
    valid_split: str


def load_data(recipe: Recipe, data_dir: Path | None) -> DataOfRun:
    """The images of a recipe: ``data.valid`` images set aside, else the published valid split, else test.

    ``threshold`` is applied to all; ``dynamic`` to the validation images alone, once, by a fixed seed.
    """
    module = catalog.load("datasets", recipe.data["name"])
    options, mode = recipes.load_options(recipe), recipe.data["binarize"]
    train: Images = module.load(data_dir, "train", **options)
    if recipe.data["valid"]:
        train, valid = split_off(train, recipe.data["valid"])
        split = f"{recipe.data['valid']} images set aside from train"
    else:
        split = "valid" if "valid" in module.ABOUT.splits else "test"
        valid = module.load(data_dir, split, **options)
    return DataOfRun(train if mode == "dynamic" else binarize(train, mode), binarize(valid, mode), split)


def data_of(run: Run, data: str | Path | None) -> DataOfRun:
    """The images that ``run`` was trained and validated on, from ``data`` or from where they lay then."""
    place = data
    if place is None and Path(run.machine.get("data_dir") or "").exists():
        place = run.machine.get("data_dir")
    images = load_data(run.recipe, Path(place) if place else None)
    wanted = run.machine.get("data_sha256")
    if wanted and images.train.fingerprint() != wanted:
        raise ValueError(
            f"the images in {images.train.source} are not those that {run.path} was trained on; see --data"
        )
    return images


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Name, facts and whereabouts of every data set."""
    rows = []
    for name in catalog.names("datasets"):
        module = catalog.load("datasets", name)
        about = module.ABOUT
        rows.append(
            {
                "name": name,
                "title": about.title,
                "images": dict(about.splits),
                "shape": list(about.image_shape),
                "licence": about.licence,
                "source": about.source,
                "place": _place(module, data_dir),
            }
        )
    return rows


def _place(module: Any, data_dir: Path | None) -> str:
    """Where the files of a data set lie."""
    if not module.ABOUT.files:
        return "comes with vaelab"
    found = module.find(data_dir) if hasattr(module, "find") else None
    return str(found) if found else "not here yet"


def get_data(name: str, target: Path | None = None) -> Path | None:
    """Download a data set to ``target`` or the cache; None for one that needs no files."""
    module = catalog.load("datasets", name)
    if not module.ABOUT.files:
        return None
    folder: Path = module.get(target)
    return folder


def check_data(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """(data set, [(file, "ok" … or what is wrong)]) for the data set whose files lie in or below ``path``."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    checkable = {name: catalog.load("datasets", name) for name in catalog.names("datasets")}
    results = []
    for name, module in checkable.items():
        if hasattr(module, "check"):
            try:
                results.append((name, list(module.check(path))))
            except FileNotFoundError:
                continue
    if not results:
        kinds = ", ".join(name for name, module in checkable.items() if hasattr(module, "check"))
        raise FileNotFoundError(f"{path}: no data set that vaelab can check here (it knows {kinds})")
    return min(results, key=lambda result: sum(not verdict.startswith("ok") for _, verdict in result[1]))
