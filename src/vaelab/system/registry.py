"""The members of open folders. A file's name is the member's name; other packages add members by entry point.

A package outside vaelab adds a member with an entry point of the group ``vaelab.FOLDER`` (``vaelab.objectives``,
``vaelab.datasets`` …), whose value is a module that has the folder's interface.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from vaelab.system.arguments import describe
from vaelab.system.errors import InputError, UnknownName

PACKAGES = {
    "datasets": "vaelab.data.datasets",
    "networks": "vaelab.models.networks",
    "posteriors": "vaelab.models.posteriors",
    "priors": "vaelab.models.priors",
    "samplers": "vaelab.models.samplers",
    "likelihoods": "vaelab.models.likelihoods",
    "objectives": "vaelab.training.objectives",
    "trackers": "vaelab.training.trackers",
    "metrics": "vaelab.evaluation.metrics",
    "figures": "vaelab.figures",
    "converters": "vaelab.converters",
}
"""Open folder → its package."""
KINDS = {"datasets": "data set", "converters": "package to convert from"}
"""Open folder → the word for a member, if it is not the folder's singular."""
OTHER_WORDS = {
    "lr": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "latents": "latent_dim",
    "latent_size": "latent_dim",
    "z_dim": "latent_dim",
    "epoch": "epochs",
    "max_steps": "steps",
    "num_steps": "steps",
    "num_epochs": "epochs",
    "dtype": "precision",
    "image_size": "size",
    "resolution": "size",
    "gpu": "cuda",
    "bfloat16": "bf16",
    "float32": "fp32",
    "gray": "grey",
    "grayscale": "grey",
    "greyscale": "grey",
    "color": "rgb",
    "colour": "rgb",
}
"""Words of other programs → vaelab's, for suggestions."""


def unknown(what: str, given: object, choices: Iterable[str]) -> UnknownName:
    """Return the error for a wrong name: the name, the nearest match and the sorted choices."""
    names = sorted(choices)
    near = nearest(str(given), names)
    guess = f" Did you mean {near!r}?" if near else ""
    message = f"unknown {what} {describe(str(given))}.{guess} Valid: {', '.join(names) or 'none'}"
    return UnknownName(message, subject=what, value=given, choices=names)


def nearest(given: str, names: Sequence[str]) -> str:
    """Return the name that was most likely meant, ignoring case; empty if none is near."""
    lower = {name.casefold(): name for name in names}
    word = given.casefold().replace("-", "_")
    if OTHER_WORDS.get(word) in names:
        return OTHER_WORDS[word]
    return next((lower[found] for found in difflib.get_close_matches(word, lower, n=1)), "")


def names(folder: str) -> tuple[str, ...]:
    """Return the sorted names of the members of ``folder``, including those of other packages."""
    spec = importlib.util.find_spec(PACKAGES[folder])  # does not import the package, which may need matplotlib
    assert spec is not None
    return _find_names(folder, tuple(spec.submodule_search_locations or ()), tuple(sys.path))


@cache
def _find_names(folder: str, package_path: tuple[str, ...], search_path: tuple[str, ...]) -> tuple[str, ...]:
    own = {module.name for module in pkgutil.iter_modules(package_path) if not module.name.startswith("_")}
    return tuple(sorted(own | set(_find_entry_points(search_path)[folder])))


@cache
def _find_entry_points(search_path: tuple[str, ...]) -> dict[str, dict[str, list[Any]]]:
    """Return folder → name → entry points of other packages; ``search_path`` is that of Python, on which they depend.

    All folders are read together, because each reading opens the metadata of every installed package. The package
    ``importlib_metadata``, once imported, replaces the class of entry points by its own.
    """
    found: dict[str, dict[str, list[Any]]] = {folder: {} for folder in PACKAGES}
    everything = entry_points()
    for folder, names in found.items():
        for point in everything.select(group=f"vaelab.{folder}"):
            names.setdefault(point.name, []).append(point)
    return found


def list_packages() -> list[str]:
    """Return the modules by which other packages add members, with the versions of these packages."""
    folders = _find_entry_points(tuple(sys.path)).values()
    points = [point for names in folders for found in names.values() for point in found]
    return sorted(f"{point.value} {point.dist.version if point.dist else ''}" for point in points)


def kind_of(folder: str) -> str:
    """Return the word for one member of ``folder``."""
    return KINDS.get(folder, folder.removesuffix("s"))


def load(folder: str, name: str) -> ModuleType:
    """Return the module of a member; UnknownName with the valid names, InputError if several packages have it."""
    if name not in names(folder):
        raise unknown(kind_of(folder), name, names(folder))
    points = _find_entry_points(tuple(sys.path))[folder].get(name)
    if not points:
        return importlib.import_module(f"{PACKAGES[folder]}.{name}")
    owners = list(dict.fromkeys(point.value for point in points))
    if importlib.util.find_spec(f"{PACKAGES[folder]}.{name}"):
        owners.insert(0, "vaelab")
    if len(owners) > 1:
        message = f"{kind_of(folder)} {name!r} is defined by {' and '.join(owners)}: uninstall all but one"
        raise InputError(message, subject=kind_of(folder), value=name, choices=owners)
    module = points[0].load()
    assert isinstance(module, ModuleType), f"entry point {points[0]} must name a module"
    return module
