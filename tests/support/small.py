"""Small models, images and recipes for the tests of training, and an objective's terms on a batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import recipe
from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.data.tensors import Batch
from vaelab.models.conditions import condition_names, training_rows
from vaelab.models.vae import VAE, VAEOutput
from vaelab.recipe import ResolvedRecipe
from vaelab.system import registry
from vaelab.system.distributed import current_group
from vaelab.system.machine import Precision
from vaelab.system.noise import Noise, StepNoise
from vaelab.training import objectives, settings
from vaelab.training.objectives import Context, Objective
from vaelab.training.settings import Settings
from vaelab.training.state import State, create_state
from vaelab.training.step import EagerSteps, Steps

CPU = torch.device("cpu")
FITTING_PAIRS = [
    (posterior, prior)
    for posterior in registry.names("posteriors")
    for prior in registry.names("priors")
    if registry.load("priors", prior).Prior.needs <= registry.load("posteriors", posterior).Posterior.provides
]
"""Every posterior with every prior that it fits."""
CROSSED_PAIRS = [
    (posterior, prior)
    for posterior, prior in FITTING_PAIRS
    if posterior == "diagonal" or prior == "normal" or (posterior, "normal") not in FITTING_PAIRS
]
"""Every posterior with the normal prior, every prior with the diagonal posterior, and what fits neither of these."""
OBJECTIVES_AND_NETWORKS = [
    *((objective, "conv") for objective in registry.names("objectives")),
    *(("elbo", network) for network in registry.names("networks") if network != "conv"),
]
"""Every objective and every network; no objective knows the network."""
NETWORKS = {
    "conv": {"channels": [4, 6], "strides": [2, 1]},
    "mlp": {"hidden": [16]},
    "residual": {"channels": [4, 6], "strides": [2, 1]},
}
OBJECTIVES = {"factor": {"hidden": 12, "layers": 2}}
CONTROLS: dict[str, dict[str, Any]] = {
    "clip": {"training__clip": 0.5},
    "clip with a discriminator": {"training__clip": 0.5, "objective__name": "factor"},
    "adamw": {"training__optimizer": "adamw", "training__weight_decay": 0.5},
    "warm-up": {"training__warmup_steps": 8, "training__decay": "cosine"},
    "ema": {"training__ema": 0.9},
    "flip+shift": {"training__augment": "flip+shift"},
    "flip+crop": {"training__augment": "flip+crop", "data__binarize": "dynamic"},
    "patience": {"training__patience": 100},
}
"""Training options that are off by default."""


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


def make_recipe(**overrides: Any) -> ResolvedRecipe:
    network, objective = overrides.get("network__name", "conv"), overrides.get("objective__name", "elbo")
    tables = {
        "data": {"name": "digits"},
        "network": {"name": network, "latent_dim": 2, **NETWORKS.get(network, {})},
        "objective": {"name": objective, **OBJECTIVES.get(objective, {})},
    }
    defaults = {"training.batch_size": 8, "training.steps": 20, "training.checkpoint_every": 7, "training.threads": 1}
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return recipe.validate(recipe.merge(tables, {**defaults, **dotted}), "test").resolve((1, 9, 8), 50)


def make_state(made: ResolvedRecipe, data: Images) -> State:
    made = made.resolve(data.image_shape, len(data))
    vae, objective = build(made, condition_names(made.network["condition"], data))
    vae.condition_rows = training_rows(vae.spec, data)
    return create_state(vae, objective, make_settings(made), CPU)


def make_settings(made: ResolvedRecipe, precision: Precision = "fp32") -> Settings:
    return settings.make_settings(made, precision=precision, threads=1, shuffle_buffer=0)


def make_steps(
    state: State,
    data: Images,
    made: ResolvedRecipe | None = None,
    kind: type[Steps] = EagerSteps,
    precision: Precision = "fp32",
    **options: Any,
) -> Steps:
    """Steps on batches of ``data``; ``options`` are those of ``Batches``."""
    given = make_settings(made or make_recipe(), precision)
    batches = Batches(data, given.batch_size, given.seed, CPU, **options)
    return kind(state, batches, given, StepNoise(given.seed, CPU))


def run_steps(steps: Steps, last: int) -> Tensor:
    """The terms of the steps up to ``last``, one row per step, summed over ranks."""
    rows = []
    while steps.state.step < last:
        rows.append(steps.take(steps.state.step))
        steps.state.step += 1
    return current_group().all_reduce_(torch.stack(rows))


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
