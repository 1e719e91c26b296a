"""Estimate of the training time on this machine, from a few steps on random images."""

import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.recipe import ResolvedRecipe
from vaelab.system.device import deterministic, resolve_precision
from vaelab.system.machine import default_threads
from vaelab.training.settings import make_settings
from vaelab.training.state import create_state
from vaelab.training.step import make_steps

MAX_SECONDS, MAX_STEPS = 0.3, 20
"""The measurement ends after one of them, but not before its second step; the first one is left out."""


def measure_step(recipe: ResolvedRecipe, device: torch.device) -> float:
    """Return the median seconds of a training step of a recipe, without a condition and without reading images."""
    training = recipe.training
    precision = resolve_precision(training.precision, device)
    threads = default_threads() if training.threads == "auto" else training.threads
    settings = make_settings(recipe, precision=precision, threads=threads, shuffle_buffer=0)
    channels, height, width = recipe.image_shape
    count = min(settings.batch_size, recipe.num_images)
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)
    with deterministic(device, precision, threads):
        vae, objective = build(replace(recipe, network={**recipe.network, "condition": "none"}))
        state = create_state(vae, objective, settings, device)
        steps = make_steps(state, Batches(Images(noise, source="noise"), count, 0, device), settings)
        seconds: list[float] = []
        while len(seconds) < 2 or (sum(seconds[1:]) < MAX_SECONDS and len(seconds) < MAX_STEPS):
            start = time.perf_counter()
            steps.take(len(seconds))
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
