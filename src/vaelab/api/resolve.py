"""What "auto" is for a run: what it was at the run's beginning, else what suits the data and the machine."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from vaelab.api.run_images import RunImages
from vaelab.data.loader import choose_shuffle_buffer
from vaelab.recipe import Recipe
from vaelab.run import Run
from vaelab.system.device import Precision, default_threads, resolve_precision
from vaelab.system.distributed import launched_group


def resolve(recipe: Recipe, images: RunImages, target: Run) -> Recipe:
    """The recipe with every "auto" replaced by what it was at the run's beginning, else by what it is here."""
    before = target.recipe.data if target.exists else {}
    # The images of a run that goes on are loaded by the run's own recipe, which no longer says "auto".
    data = {**before, **images.train.resolved}
    recipe = recipe.resolve(images.train.image_shape, len(images.train), data)
    if recipe.training.shuffle_buffer != "auto":
        return recipe
    buffer_before = target.recipe.training.shuffle_buffer if target.exists else "auto"
    # a run of an older vaelab shuffled all of its images
    begun = 0 if buffer_before == "auto" else buffer_before
    shuffle_buffer = begun if target.exists else choose_shuffle_buffer(images.train.pixels)
    return replace(recipe, training=replace(recipe.training, shuffle_buffer=shuffle_buffer))


def device_before(target: Run) -> str:
    """The device of the run's beginning; among several processes each has one of its own."""
    before: str = target.machine.get("torch_device", "auto")
    return before.partition(":")[0] if launched_group().world_size > 1 else before


def precision_of(recipe: Recipe, target: Run, device: torch.device) -> Precision:
    """The recipe's, else that of the run's beginning, else the device's: bits depend on it."""
    before: Precision = target.machine.get("precision", "auto")
    return resolve_precision(before if recipe.training.precision == "auto" else recipe.training.precision, device)


def threads_of(recipe: Recipe, target: Run) -> int:
    """The recipe's number, else that of the run's beginning, else every processor: bits depend on it."""
    if recipe.training.threads != "auto":
        return int(recipe.training.threads)
    return int(target.machine.get("threads", default_threads()))


def compare_machines(before: Mapping[str, Any], now: Mapping[str, Any], tell: Callable[..., None]) -> None:
    """Say what differs of what the bits of a run depend on."""
    wanted = ("device", "processor", "threads", "torch", "numpy", "precision", "ranks")
    changed = [key for key in wanted if before.get(key, 1 if key == "ranks" else None) != now[key]]
    if changed:
        what = ", ".join(f"{key} {before.get(key)} then, {now[key]} now" for key in changed)
        tell(f"{what}: the run goes on, but not bit for bit as it would have", warning=True)
    if now["threads"] > default_threads():
        tell(f"{now['threads']} threads as before, on {default_threads()} processors now: this is slow", warning=True)
