"""Overrides of a recipe by dotted key, such as ``objective.beta=4``."""

import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vaelab.recipe.schema import (
    SECTIONS,
    TRAINED_SECTIONS,
    Section,
    check_section,
    member_schema,
    signature_schema,
    toml_value,
    unknown_section,
)
from vaelab.recipe.training import Training
from vaelab.system import registry
from vaelab.system.arguments import describe
from vaelab.system.errors import RecipeError

SAME_EXPERIMENT = frozenset(
    ["data.strict", "training.seed", "training.threads", "training.precision", "training.figures",
     "training.validate_every", "training.checkpoint_every", "training.shuffle_buffer"]
)  # fmt: skip
"""Keys that do not make a recipe another experiment: its title and published numbers still apply."""


EPOCHS, STEPS = "training.epochs", "training.steps"


def parse_override(text: str) -> tuple[str, Any]:
    """Parse ``objective.beta=4`` as ("objective.beta", 4); a value that is not TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        message = f"--set {text!r}: write it as section.key=value, such as --set training.epochs=5"
        raise RecipeError(message, subject="--set", value=text)
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    return key.strip(), parsed["value"] if set(parsed) == {"value"} else value.strip()


def check_overrides(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return overrides with NumPy scalars as Python numbers; TypeError for other than text keys and plain values."""
    example, checked = 'such as {"objective.beta": 4}', {}
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"set must be a mapping, {example}; got {describe(given)}")
    for key, value in (given or {}).items():
        if not isinstance(key, str):
            raise TypeError(f"the keys of set must be text, {example}; got {describe(key)}")
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            raise TypeError(f"{key} must be a number, text or a list; got {describe(value)}")
        checked[key] = value.item() if isinstance(value, np.generic) else value
    return checked


def merge(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested ``tables`` of a recipe with dotted overrides.

    If an override names another member, keys that only the old member has are dropped, and so are its "auto" values.
    An override of ``training.epochs`` replaces the recipe's ``training.steps``.
    Overrides that make it another experiment are added to the title, and published numbers are dropped.
    """
    _check_length(overrides)
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
    changed = []
    names_first = sorted(overrides.items(), key=lambda item: not item[0].endswith(".name"))
    for key, value in names_first:
        section, dot, rest = key.partition(".")
        if not dot or section not in (*SECTIONS, "training", "expected"):
            raise unknown_section(key, tables, signature_schema(Training))
        table = merged.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{section} must be a table, [{section}]", subject=section, value=table)
        is_name = rest == "name" and section in SECTIONS
        old = table.get(rest, SECTIONS[section].default if is_name else None)
        if old != value and section in (*TRAINED_SECTIONS, "training") and key not in SAME_EXPERIMENT:
            changed.append(f"{key} = {toml_value(value)}")
        if is_name and old != value:
            common, own = {"name", *SECTIONS[section].common}, member_schema(section, str(value))
            merged[section] = table = {k: v for k, v in table.items() if k in common or (k in own and v != "auto")}
        table[rest] = value
        if key == EPOCHS and not overrides.get(STEPS):
            table.pop("steps", None)  # which would be used instead of the epochs
    if changed:
        merged.pop("expected", None)
        if isinstance(title := merged.get("title"), str):
            merged["title"] = f"{title}; here {', '.join(changed)}"
    return merged


def _check_length(overrides: Mapping[str, Any]) -> None:
    """Raise RecipeError if overrides give the training length twice."""
    if EPOCHS in overrides and overrides.get(STEPS):
        message = f"{EPOCHS} and {STEPS} are both given; give one of them"
        raise RecipeError(message, subject=STEPS, value=overrides[STEPS])


def override_sampler(table: Section, name: str | None, overrides: Mapping[str, Any]) -> Section:
    """Return the section of a sampler with another member and other options, checked.

    ``overrides``: keys such as "sampler.components". UnknownName or RecipeError for a wrong name, key or value.
    """
    named = check_overrides({} if name is None else {"sampler.name": name}) | check_overrides(overrides)
    if named.get("sampler.name") != (name or named.get("sampler.name")):
        message = f"the samplers {name} and {named['sampler.name']} are both given; give one of them"
        raise RecipeError(message, subject="sampler.name", value=named["sampler.name"])
    for key in named:
        if not key.startswith("sampler."):
            choices = ["sampler.name", *(f"sampler.{option}" for option in member_schema("sampler", table["name"]))]
            raise registry.unknown("key of the sampler:", key, choices)
    return check_section("sampler", merge({"sampler": table}, named)["sampler"])
