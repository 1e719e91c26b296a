"""The list of presets that ``vaelab recipes`` shows: ``src/vaelab/recipes/index.json``.

It is a file, because the number of weights needs the networks, and importing torch takes a second or two.
``docs/check.py --write`` writes it, and ``docs/check.py`` finds one that is out of date.
"""

import json
from pathlib import Path
from typing import Any

import torch

from vaelab import recipe as recipes
from vaelab.api.run_images import published_sizes
from vaelab.build import build

INDEX = Path(__file__).parents[1] / "src/vaelab/recipes/index.json"


def describe_presets() -> list[dict[str, Any]]:
    """Data set, network, objective, size and published numbers of every preset."""
    return [_describe(name) for name in recipes.presets()]


def _describe(name: str) -> dict[str, Any]:
    recipe, shape, parameters = recipes.load(name), None, None
    if published := published_sizes(recipe):
        shape, counts = published
        recipe = recipe.resolve(shape, counts["train"])
        with torch.device("meta"):
            vae, _ = build(recipe)
        parameters = sum(vae.num_parameters.values())
    return {
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


def write() -> None:
    """Write the index."""
    INDEX.write_text(json.dumps(describe_presets(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def find_outdated() -> list[str]:
    """A line if the index is not what the presets give."""
    is_same = INDEX.is_file() and json.loads(INDEX.read_text(encoding="utf-8")) == describe_presets()
    return [] if is_same else [f"{INDEX.name} of the presets is out of date: python docs/check.py --write"]
