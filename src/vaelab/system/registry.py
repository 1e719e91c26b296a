"""The members of a folder: a file's name is the member's name, and other packages add to it by entry point.

A package outside vaelab offers a member with an entry point of the group ``vaelab.FOLDER`` (``vaelab.objectives``,
``vaelab.datasets`` …) whose value is a module that keeps the folder's contract.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from vaelab.system.arguments import describe
from vaelab.system.errors import UnknownName

PACKAGES = {
    "datasets": "vaelab.data.datasets",
    "networks": "vaelab.models.networks",
    "posteriors": "vaelab.models.posteriors",
    "priors": "vaelab.models.priors",
    "samplers": "vaelab.models.samplers",
    "likelihoods": "vaelab.models.likelihoods",
    "objectives": "vaelab.training.objectives",
    "metrics": "vaelab.evaluation.metrics",
    "figures": "vaelab.figures",
}
"""Open folder → the package that holds its members."""
KINDS = {"datasets": "data set"}
"""Open folder → the word for one member, where it is not the folder's singular."""


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
"""Words of other programs → vaelab's, for guesses."""


def unknown(what: str, given: object, choices: Iterable[str]) -> UnknownName:
    """The error for a wrong name: says what was given, the nearest match, and every valid choice."""
    names = sorted(choices)
    near = nearest(str(given), names)
    guess = f" Did you mean {near!r}?" if near else ""
    message = f"unknown {what} {describe(str(given))}.{guess} Valid: {', '.join(names) or 'none'}"
    return UnknownName(message, subject=what, value=given, choices=names)


def nearest(given: str, names: Sequence[str]) -> str:
    """The name that a person most likely meant, whatever the case; empty where none is near."""
    plain = {name.casefold(): name for name in names}
    word = given.casefold().replace("-", "_")
    if OTHER_WORDS.get(word) in names:
        return OTHER_WORDS[word]
    return next((plain[found] for found in difflib.get_close_matches(word, plain, n=1, cutoff=0.5)), "")


@cache
def _offered(folder: str) -> dict[str, list[EntryPoint]]:
    offered: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"vaelab.{folder}"):
        offered.setdefault(point.name, []).append(point)
    return offered


@cache
def names(folder: str) -> tuple[str, ...]:
    """Sorted names of the members of ``folder``, vaelab's own and those of other packages."""
    package = importlib.import_module(PACKAGES[folder])
    own = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    return tuple(sorted(own | set(_offered(folder))))


def kind_of(folder: str) -> str:
    """The word for one member of ``folder``."""
    return KINDS.get(folder, folder.removesuffix("s"))


def load(folder: str, name: str) -> ModuleType:
    """The module of member ``name``; UnknownName with the valid names otherwise."""
    if name not in names(folder):
        raise unknown(kind_of(folder), name, names(folder))
    offered = _offered(folder)
    if name not in offered:
        return importlib.import_module(f"{PACKAGES[folder]}.{name}")
    if importlib.util.find_spec(f"{PACKAGES[folder]}.{name}"):
        raise ValueError(
            f"{kind_of(folder)} {name!r} is offered by {offered[name][0].value} but vaelab has one of that name"
        )
    if len({point.value for point in offered[name]}) > 1:
        rivals = " and ".join(point.value for point in offered[name])
        raise ValueError(f"{kind_of(folder)} {name!r} is offered by {rivals}: uninstall all but one")
    module = offered[name][0].load()
    assert isinstance(module, ModuleType), f"entry point {offered[name][0]} must name a module"
    return module
