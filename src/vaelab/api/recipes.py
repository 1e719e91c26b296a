"""``vaelab recipes``: the presets, their text and the schema of recipes."""

from importlib import resources
from typing import Any

import torch

from vaelab import recipe as recipes
from vaelab.api.run_images import published_sizes
from vaelab.build import build
from vaelab.recipe.json_schema import make_json_schema
from vaelab.system import registry


def list_recipes() -> list[dict[str, Any]]:
    """Return data set, network, objective, size and published numbers of every preset.

    Values that depend on the user's images are "auto"; the image shape and the number of parameters are then None.
    """
    rows = []
    for name in recipes.presets():
        recipe = recipes.load(name)
        shape, parameters = None, None
        if published := published_sizes(recipe):
            shape, counts = published
            recipe = recipe.resolve(shape, counts["train"])
            with torch.device("meta"):
                vae, _ = build(recipe)
            parameters = sum(vae.num_parameters.values())
        rows.append(
            {
                "name": name,
                "title": recipe.title,
                "data": recipe.data["name"],
                "image_shape": None if shape is None else list(shape),
                "network": recipe.network["name"],
                "objective": recipe.objective["name"],
                "likelihood": recipe.likelihood["name"],
                "latent_dim": recipe.network["latent_dim"],
                "parameters": parameters,
                "epochs": recipe.training.epochs,
                "steps": recipe.training.steps,
                "expected": recipe.expected,
            }
        )
    return rows


def read_recipe(name: str) -> str:
    """Return the text of a preset, as a starting point for your own recipe; UnknownName for an unknown name."""
    if name not in recipes.presets():
        raise registry.unknown("recipe", name, recipes.presets())
    return resources.files("vaelab.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipes, with which editors complete and validate ``.toml`` files."""
    return make_json_schema()
