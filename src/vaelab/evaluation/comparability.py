"""Differences between runs: groups of runs with the same recipe, a label for each, and reasons not to compare them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaelab.recipe import SAME_EXPERIMENT, SECTIONS, Recipe, toml_value
from vaelab.run import Run

if TYPE_CHECKING:
    from vaelab.api.run_images import RunImages

SHORT_NAMES = {"objective.beta": "β", "network.latent_dim": "latents"}
UNNAMED_KEYS = ("data.name", "network.name", "likelihood.name", "objective.name")
"""Keys whose value needs no name beside it."""
MAX_LABEL = 48
"""Characters of a label that describes differences; a longer one is replaced by the run's name."""


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs that differ only in their seed or in settings that do not affect results, in order of appearance.

    The keys are labels that describe what distinguishes each group.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_flatten(run.recipe), run.data_sha256]), []).append(run)
    firsts = [members[0] for members in groups.values()]
    return dict(zip(_label_runs(firsts), groups.values(), strict=True))


def _flatten(recipe: Recipe) -> dict[str, Any]:
    """Return dotted key → value of everything that makes a different experiment."""
    tables = recipe.sections()
    flat = {f"{section}.{key}": value for section in (*SECTIONS, "training") for key, value in tables[section].items()}
    return {key: value for key, value in flat.items() if key not in SAME_EXPERIMENT}


def _label_runs(runs: Sequence[Run]) -> list[str]:
    """Return distinct labels: the differences between recipes, else the directories' names, else their paths."""
    if len(runs) == 1:
        return [runs[0].recipe.name]
    tables = [_drop_unused_length(_flatten(run.recipe)) for run in runs]
    labels = [label_values(_distinguish(table, tables)) for table in tables]
    if len(set(labels)) == len(labels) and max(map(len, labels)) <= MAX_LABEL:
        return labels
    return _name_runs(runs)


def _drop_unused_length(table: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe without the epochs if its length is given in steps, else without the steps, which are 0."""
    unused = "training.epochs" if table["training.steps"] else "training.steps"
    return {key: value for key, value in table.items() if key != unused}


def _name_runs(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _distinguish(table: dict[str, Any], tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the values that distinguish one recipe from the others.

    A key that only some members of a folder have, such as β, is compared with recipes with the same member.
    """
    found = {}
    for key, value in table.items():
        name = f"{key.split('.')[0]}.name"
        is_own = any(key not in other for other in tables)
        rivals = [other for other in tables if other.get(name) == table.get(name)] if is_own else tables
        if any(other.get(key) != value for other in rivals):
            found[key] = value
    return found


def label_values(values: dict[str, Any]) -> str:
    """Return keys and values of a recipe as a label for people."""
    words = []
    for key, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else toml_value(value)
        words.append(text if key in UNNAMED_KEYS else f"{short_name(key)} = {text}")
    return ", ".join(words)


def short_name(key: str) -> str:
    """Return a short name of a dotted key."""
    section, _, name = key.partition(".")
    return SHORT_NAMES.get(key) or (section if name == "name" else name.replace("_", " "))


# -- comparability ----------------------------------------------------------------------------------------------------


def find_obstacles(runs: Sequence[Run], data: "Sequence[RunImages]", results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each difference between runs that makes their numbers incomparable.

    ``results``: metric → result, for each run. A difference that follows from a reported one is not reported.
    """
    names = _name_runs(runs)

    def differ(what: str, values: Sequence[Any], so: str, show: Callable[[Any], str] = str) -> list[str]:
        """Return a sentence if the known values differ."""
        shown = {name: show(value) for name, value in zip(names, values, strict=True) if value is not None}
        different = list(dict.fromkeys(shown.values()))
        parts = [f"{value} ({', '.join(name for name in shown if shown[name] == value)})" for value in different]
        return [f"{what}: {'; '.join(parts)}. {so}"] if len(different) > 1 else []

    nothing, maybe = "Their numbers are not comparable", "Differences may be due to the images"
    found = differ("Different data", [part.dataset["data"] for part in data], nothing)
    if not found:
        for key in dict.fromkeys(key for part in data for key in part.dataset if key != "data"):
            found += differ(f"Different data.{key}", [part.dataset.get(key) for part in data], nothing, toml_value)
        found += differ("Different binarisation", [part.binarize for part in data], nothing)
    found = found or differ("Different image sizes", [part.train.image_shape for part in data], nothing, _size)
    found = found or differ("Different held-out images", [part.valid_split for part in data], maybe)
    digests = [next(iter(of_run.values()))["measured_on"]["images_sha256"][:8] for of_run in results]
    found = found or differ("Different held-out images", digests, maybe)
    digests = [str(run.data_sha256)[:8] for run in runs]
    found = found or differ("Different training images", digests, maybe)
    for metric in dict.fromkeys(name for of_run in results for name in of_run):
        options = [of_run[metric]["measured_on"].get("options", {}) if metric in of_run else None for of_run in results]
        found += differ(f"Different options of {metric}", options, "Its numbers are not comparable", _pairs)
    so = "Reconstruction, ELBO and the relative weight of the KL are not comparable"
    likelihoods = [run.recipe.likelihood for run in runs]
    return [*found, *differ("Different likelihoods", likelihoods, so, lambda table: _pairs(table, " "))]


def _size(shape: tuple[int, int, int]) -> str:
    return "×".join(str(side) for side in (*shape[1:], shape[0]))


def _pairs(table: dict[str, Any], separator: str = ", ") -> str:
    pairs = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in table.items()]
    return separator.join(pair.removeprefix("name ") for pair in pairs) or "none"
