"""vaelab's training loop on made-up pixels, timed: what growth.py and roofline.py measure."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vaelab import recipe as recipes
from vaelab.build import build
from vaelab.data.arrays import PixelArray
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.recipe import Recipe
from vaelab.system.device import default_threads, deterministic, resolve_device, resolve_precision
from vaelab.training import loop as training
from vaelab.training.state import begin

ENDLESS = 1_000_000_000
"""Steps of a training that ends by the clock."""
MLP = {
    "network.name": "mlp",
    "network.hidden": [400],
    "network.latent_dim": 20,
    "likelihood.name": "bernoulli",
    "training.batch_size": 128,
    "training.learning_rate": 0.001,
}
"""What makes the recipe of MNIST the small fully connected VAE of many tutorials."""
SHAPES = {"mnist": (1, 28, 28), "mlp": (1, 28, 28), "celeba": (3, 128, 128), "celeba-beta": (3, 128, 128)}
"""Work → channels, height, width."""


def recipe_of(work: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a work, to be trained until the clock says stop, without validation."""
    more = {"training.steps": ENDLESS, "training.validate_every": 0, **(overrides or {})}
    return recipes.load("mnist", {**MLP, **more}) if work == "mlp" else recipes.load(work, more)


def made_up(count: int, image_shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Random uint8 pixels [N, H, W, C]: no network's time depends on what they show."""
    channels, height, width = image_shape
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)


def time_steps(
    recipe: Recipe,
    pixels: PixelArray,
    seconds: float,
    *,
    device: str = "auto",
    warm: float = 1.0,
    window: int = 0,
    least_steps: int = 1,
) -> dict[str, Any]:
    """Time of a step and of an image in the loop that `vaelab train` runs, after ``warm`` seconds, without its files.

    Lasts for ``seconds`` and ``least_steps``, whichever ends later.
    """
    images = Images(pixels)
    place = resolve_device(device)
    precision = resolve_precision(recipe.training.precision, place)
    recipe = recipe.resolve(images.image_shape, len(images))
    settings = recipe.training
    with deterministic(place, precision, default_threads()):
        state = begin(*build(recipe, images.image_shape, len(images)), settings, place)
        batches = Batches(images, settings.batch_size, settings.seed, place, window=window)
        ticks = training.train(state, batches, settings, binarize="none", precision=precision, valid=None)
        reached, began = 0, 0.0
        for tick in ticks:
            now = time.perf_counter()
            if not reached and tick.seconds >= warm:
                reached, began = tick.step, now
            elif reached and now - began >= seconds and tick.step - reached >= least_steps:
                break
        ticks.close()
        threads = torch.get_num_threads()
    steps, elapsed = tick.step - reached, now - began
    return {
        "steps": steps,
        "seconds": elapsed,
        "ms_per_step": 1000 * elapsed / steps,
        "ms_per_image": 1000 * elapsed / _seen(reached, tick.step, batches),
        "precision": precision,
        "threads": threads,
    }


def _seen(first: int, last: int, batches: Batches) -> int:
    """Images in the batches of these steps; the last batch of an epoch may be smaller."""
    counts = []
    for step in (first, last):
        epochs, position = divmod(step, batches.steps_per_epoch)
        counts.append(epochs * batches.num_images + position * batches.batch_size)
    return counts[1] - counts[0]
