"""Times vaelab's training loop on random pixels, for growth.py and roofline.py."""

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
from vaelab.system.device import deterministic, resolve_device, resolve_precision
from vaelab.system.machine import default_threads
from vaelab.training import loop as training
from vaelab.training.settings import make_settings
from vaelab.training.state import create_state

UNLIMITED_STEPS = 1_000_000_000
"""Steps of a training run that is stopped by the clock."""
MLP = {
    "network.name": "mlp",
    "network.hidden": [400],
    "network.latent_dim": 20,
    "likelihood.name": "bernoulli",
    "training.batch_size": 128,
    "training.learning_rate": 0.001,
}
"""Overrides that turn the mnist recipe into the small fully connected VAE of many tutorials."""
SHAPES = {"mnist": (1, 28, 28), "mlp": (1, 28, 28), "celeba": (3, 128, 128), "celeba-beta": (3, 128, 128)}
"""Workload → channels, height, width."""


def load_recipe(workload: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a workload, without validation and without a last step."""
    more = {"training.steps": UNLIMITED_STEPS, "training.validate_every": 0, **(overrides or {})}
    return recipes.load("mnist", {**MLP, **more}) if workload == "mlp" else recipes.load(workload, more)


def random_pixels(count: int, image_shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Random uint8 pixels [N, H, W, C]. The time of a step does not depend on their values."""
    channels, height, width = image_shape
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)


def time_steps(
    recipe: Recipe,
    pixels: PixelArray,
    seconds: float,
    *,
    device: str = "auto",
    warmup: float = 1.0,
    window: int = 0,
    min_steps: int = 1,
) -> dict[str, Any]:
    """Milliseconds per step and per image in the loop of ``vaelab train``, without the files of a run.

    The first ``warmup`` seconds do not count. Then at least ``seconds`` and ``min_steps`` are timed.
    """
    images = Images(pixels)
    place = resolve_device(device)
    precision = resolve_precision(recipe.training.precision, place)
    resolved = recipe.resolve(images.image_shape, len(images))
    settings = make_settings(resolved, precision=precision, threads=default_threads(), shuffle_buffer=window)
    with deterministic(place, precision, settings.threads):
        state = create_state(*build(resolved), settings, place)
        batches = Batches(images, settings.batch_size, settings.seed, place, shuffle_buffer=window)
        records = training.train(state, batches, settings, valid=None)
        first_step, start = 0, 0.0
        for record in records:
            now = time.perf_counter()
            if not first_step and record.seconds >= warmup:
                first_step, start = record.step, now
            elif first_step and now - start >= seconds and record.step - first_step >= min_steps:
                break
        records.close()
        threads = torch.get_num_threads()
    steps, elapsed = record.step - first_step, now - start
    return {
        "steps": steps,
        "seconds": elapsed,
        "ms_per_step": 1000 * elapsed / steps,
        "ms_per_image": 1000 * elapsed / _count_images(first_step, record.step, batches),
        "precision": precision,
        "threads": threads,
    }


def _count_images(first: int, last: int, batches: Batches) -> int:
    """Images in the batches of these steps. The last batch of an epoch may be smaller."""
    counts = []
    for step in (first, last):
        epochs, position = divmod(step, batches.steps_per_epoch)
        counts.append(epochs * batches.num_images + position * batches.batch_size)
    return counts[1] - counts[0]
