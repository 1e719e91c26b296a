"""Small models, images and recipes for the tests of training."""

from typing import Any

import numpy as np
import torch

from vaelab import recipe
from vaelab.data.images import Images
from vaelab.recipe import Recipe
from vaelab.training.state import State, begin

CPU = torch.device("cpu")
NETWORKS = {"conv": {"channels": [4, 6], "strides": [2, 1]}, "mlp": {"hidden": [16]}}


def make_images(count: int = 50, shape: tuple[int, int, int] = (9, 8, 1), seed: int = 0) -> Images:
    return Images(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def make_recipe(**overrides: Any) -> Recipe:
    tables = {"data": {"name": "digits"}, "network": {"name": "conv", "latent_dim": 2, **NETWORKS["conv"]}}
    defaults = {"training.batch_size": 8, "training.steps": 20, "training.checkpoint_every": 7, "training.threads": 1}
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return recipe.validate(recipe.merge(tables, {**defaults, **dotted}), "test").settled((1, 9, 8), 50)


def make_state(made: Recipe, data: Images) -> State:
    vae, objective = recipe.build(made, data.image_shape, len(data))
    return begin(vae, objective, made.training, CPU)
