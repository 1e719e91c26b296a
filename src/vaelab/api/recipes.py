"""``vaelab recipes``: the presets, their text and the schema of recipes."""

import json
from importlib import resources
from typing import Any, cast

from vaelab import recipe as recipes
from vaelab.recipe.json_schema import make_json_schema
from vaelab.system import registry


def list_recipes() -> list[dict[str, Any]]:
    """Return data set, network, objective, size and published numbers of every preset.

    Values that depend on the user's images are "auto"; the image shape and the number of parameters are then None.
    """
    index = resources.files("vaelab.recipes").joinpath("index.json").read_text(encoding="utf-8")
    return cast(list[dict[str, Any]], json.loads(index))


def read_recipe(name: str) -> str:
    """Return the text of a preset, as a starting point for your own recipe; UnknownName for an unknown name."""
    if name not in recipes.presets():
        raise registry.unknown("recipe", name, recipes.presets())
    return resources.files("vaelab.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipes, with which editors complete and validate ``.toml`` files."""
    return make_json_schema()
