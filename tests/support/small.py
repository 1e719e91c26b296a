"""Small models, images and recipes for the tests of training, and an objective's terms on a batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import recipe
from vaelab.build import build
from vaelab.data.images import Batch, Images
from vaelab.data.loader import Batches
from vaelab.models.conditions import condition_names, training_rows
from vaelab.models.vae import VAE, VAEOutput
from vaelab.recipe import Recipe
from vaelab.system.device import Precision
from vaelab.system.seeds import Noise, StepNoise
from vaelab.training import objectives
from vaelab.training.objectives import Context, Objective
from vaelab.training.state import State, begin
from vaelab.training.step import EagerSteps

CPU = torch.device("cpu")
NETWORKS = {"conv": {"channels": [4, 6], "strides": [2, 1]}, "mlp": {"hidden": [16]}}
OBJECTIVES = {"factor": {"hidden": 12, "layers": 2}}


def make_images(count: int = 50, shape: tuple[int, int, int] = (9, 8, 1), seed: int = 0) -> Images:
    return Images(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def make_labelled(count: int = 50, seed: int = 0) -> Images:
    """Images with three classes and two attributes."""
    random = np.random.default_rng(seed)
    labels, attributes = random.integers(0, 3, count), random.random((count, 2)) < 0.5
    labels[:3] = range(3)
    pixels = random.integers(0, 128, (count, 9, 8, 1), dtype=np.uint8) + (labels * 60)[:, None, None, None]
    names = {"label_names": ("zero", "one", "two"), "attribute_names": ("dark", "round")}
    return Images(pixels.astype(np.uint8), labels=labels, attributes=attributes, **names)


def make_recipe(**overrides: Any) -> Recipe:
    network, objective = overrides.get("network__name", "conv"), overrides.get("objective__name", "elbo")
    tables = {
        "data": {"name": "digits"},
        "network": {"name": network, "latent_dim": 2, **NETWORKS.get(network, {})},
        "objective": {"name": objective, **OBJECTIVES.get(objective, {})},
    }
    defaults = {"training.batch_size": 8, "training.steps": 20, "training.checkpoint_every": 7, "training.threads": 1}
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return recipe.validate(recipe.merge(tables, {**defaults, **dotted}), "test").resolve((1, 9, 8), 50)


def make_state(made: Recipe, data: Images) -> State:
    vae, objective = build(made, data.image_shape, len(data), condition_names(made.network["condition"], data))
    vae.condition_rows = training_rows(vae.spec, data)
    return begin(vae, objective, made.training, CPU)


def eager_steps(state: State, data: Images, precision: Precision = "fp32") -> EagerSteps:
    """Steps on batches of 8."""
    return EagerSteps(state, Batches(data, 8, 0, CPU), StepNoise(0, CPU), "none", precision)


def as_batch(x: Tensor) -> Batch:
    return Batch(x, torch.arange(len(x), device=x.device))


def forward(vae: VAE, x: Tensor, noise: Noise | None = None, samples: int = 1) -> VAEOutput:
    """The model's output on ``x``, with the noise of step 0 unless another is given."""
    output: VAEOutput = vae(as_batch(x), noise or StepNoise(0, CPU), samples)
    return output


def compute_terms(
    objective: Objective, vae: VAE, x: Tensor, step: int = 0, noise: Noise | None = None
) -> dict[str, Tensor]:
    """The terms of an objective on ``x``, with the noise of step 0 unless another is given."""
    context = Context(torch.tensor(step), noise or StepNoise(0, CPU), vae)
    return objectives.compute_terms(objective, vae, as_batch(x), context)[1]
