"""What runs differ in: groups of one recipe, a label for each, and what stands in the way of comparing them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaelab import recipe as recipes
from vaelab.recipe import SAME_EXPERIMENT, SECTIONS, Recipe
from vaelab.run import Run

if TYPE_CHECKING:
    from vaelab.api.run_images import RunImages

WORDS = {
    "objective.beta": "β",
    "network.latent_dim": "latents",
    "data.name": "",
    "network.name": "",
    "likelihood.name": "",
    "objective.name": "",
}
"""What people call a key; those of the members are named by their value alone."""
LONGEST = 48
"""Letters of a label that says what differs; beyond, the run's name says it better."""


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but their seed (or in what leaves results alone) together, with a label for each
    group that says what sets it apart; in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_flat(run.recipe), run.machine.get("data_sha256")]), []).append(run)
    firsts = [members[0] for members in groups.values()]
    return dict(zip(_labels(firsts), groups.values(), strict=True))


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted key → value of all that makes another experiment."""
    tables = recipe.sections()
    flat = {f"{section}.{key}": value for section in (*SECTIONS, "training") for key, value in tables[section].items()}
    return {key: value for key, value in flat.items() if key not in SAME_EXPERIMENT}


def _labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, no two alike: what differs, else the directory's name, else its path."""
    tables = [_flat(run.recipe) for run in runs]
    labels = [label_values(_telling(table, tables)) for table in tables]
    if len(runs) == 1:
        return [runs[0].recipe.name]
    if len(set(labels)) == len(labels) and max(len(label) for label in labels) <= LONGEST:
        return labels
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def label_values(values: dict[str, Any]) -> str:
    """Keys and values of a recipe as people read them."""
    words = []
    for key, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else _toml(value)
        words.append(text if WORDS.get(key) == "" else f"{word_of(key)} = {text}")
    return ", ".join(words)


def word_of(key: str) -> str:
    """What people call a dotted key."""
    section, _, name = key.partition(".")
    return WORDS.get(key) or (section if name == "name" else name.replace("_", " "))


def _toml(value: Any) -> str:
    return recipes.toml_value(value)


def _telling(table: dict[str, Any], tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What sets one recipe apart from the others. What only some members of a folder have (β, where FactorVAE is among
    the objectives) tells it from recipes with the same member."""
    told = {}
    for key, value in table.items():
        name = f"{key.split('.')[0]}.name"
        is_own = any(key not in other for other in tables)
        rivals = [other for other in tables if other.get(name) == table.get(name)] if is_own else tables
        if any(other.get(key) != value for other in rivals):
            told[key] = value
    return told


# -- comparability ----------------------------------------------------------------------------------------------------


def find_obstacles(runs: Sequence[Run], data: "Sequence[RunImages]", results: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each thing in which the runs must agree for their numbers to compare, and do not.

    ``results``: metric → numbers and protocol, of each run. What follows from a difference that has been said is not
    said again.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]

    def told(what: str, values: Sequence[Any], so: str, show: Callable[[Any], str] = str) -> list[str]:
        shown = {name: show(value) for name, value in zip(names, values, strict=True) if value is not None}
        if len(set(shown.values())) <= 1:
            return []
        parts = [
            f"{value} ({', '.join(name for name in shown if shown[name] == value)})"
            for value in dict.fromkeys(shown.values())
        ]
        return [f"{what}: {'; '.join(parts)}. {so}"]

    nothing = "No number of one compares with one of the other"
    found = told("Other data", [part.dataset["data"] for part in data], nothing)
    if not found:
        keys = dict.fromkeys(key for part in data for key in part.dataset if key != "data")
        for key in keys:
            found += told(f"Other data.{key}", [part.dataset.get(key) for part in data], nothing, _toml)
        found += told("Otherwise binarised", [part.binarize for part in data], nothing)
    if not found:
        found += told("Images of other sizes", [part.train.image_shape for part in data], nothing, _size)
    if not found:
        found += told("Other held-out images", [part.valid_split for part in data], "Differences may be theirs")
    if not found:
        digests = [next(iter(of_run.values()))["measured_on"]["images_sha256"][:8] for of_run in results]
        found += told("Other held-out images", digests, "Differences may be theirs")
    if not found:
        digests = [str(run.machine.get("data_sha256"))[:8] for run in runs]
        found += told("Trained on other images", digests, "Differences may be theirs")
    for metric in dict.fromkeys(name for of_run in results for name in of_run):
        options = [of_run[metric]["measured_on"].get("options", {}) if metric in of_run else None for of_run in results]
        found += told(f"Other options of {metric}", options, "Its numbers do not compare", _options)
    so = "Reconstruction, ELBO and what they weigh the KL against are on other scales"
    return [*found, *told("Other likelihoods", [run.recipe.likelihood for run in runs], so, _likelihood)]


def _size(shape: tuple[int, int, int]) -> str:
    return "×".join(str(side) for side in (*shape[1:], shape[0]))


def _options(given: dict[str, Any]) -> str:
    return ", ".join(_pairs(given)) or "none"


def _likelihood(table: dict[str, Any]) -> str:
    return " ".join(pair.removeprefix("name ") for pair in _pairs(table))


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in table.items()]
