"""Values for "auto": those of the run if it was begun, else those that suit the images and the machine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vaelab.api.run_images import RunImages
from vaelab.data.loader import choose_shuffle_buffer
from vaelab.recipe import Recipe, ResolvedRecipe
from vaelab.run import Run
from vaelab.system.device import resolve_device, resolve_precision
from vaelab.system.distributed import launched_group
from vaelab.system.machine import default_threads
from vaelab.system.messages import count_of
from vaelab.training.augment import choose_augment
from vaelab.training.settings import Settings, make_settings


def find_device(name: str, run: Run) -> torch.device:
    """Return the device of that name; for "auto" the one that the run was begun on."""
    if name == "auto":
        name = run.machine.get("torch_device", "auto")
        name = name.partition(":")[0] if launched_group().world_size > 1 else name
    return resolve_device(name)


def resolve(recipe: Recipe, images: RunImages, run: Run, device: torch.device) -> tuple[ResolvedRecipe, Settings]:
    """Resolve every "auto" of a recipe; a run that was begun keeps its values, because the results depend on them.

    The recipe still says "auto" for precision and threads if the user did, so that it suits other machines too.
    """
    begun, machine = run.recipe if run.exists else None, run.machine
    data = {**(begun.data if begun else {}), **images.train.resolved}
    resolved = recipe.resolve(images.train.image_shape, len(images.train), data)
    training = resolved.training
    if training.augment == "auto":
        chosen = begun.training.augment if begun else choose_augment(images.train)
        resolved = replace(resolved, training=(training := replace(training, augment=chosen)))
    shuffle_buffer = training.shuffle_buffer
    if begun and shuffle_buffer == "auto":
        shuffle_buffer = begun.training.shuffle_buffer
    if shuffle_buffer == "auto":
        shuffle_buffer = choose_shuffle_buffer(images.train.pixels)
    precision, threads = training.precision, training.threads
    settings = make_settings(
        resolved,
        precision=resolve_precision(machine.get("precision", "auto") if precision == "auto" else precision, device),
        threads=machine.get("threads", default_threads()) if threads == "auto" else threads,
        shuffle_buffer=shuffle_buffer,
    )
    return replace(resolved, training=replace(training, shuffle_buffer=shuffle_buffer)), settings


def compare_machines(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return warnings about differences of the machine on which the bits of a run depend."""
    warnings = []
    keys = ("device", "processor", "threads", "torch", "numpy", "precision", "ranks")
    changed = [key for key in keys if before.get(key, 1 if key == "ranks" else None) != now[key]]
    if changed:
        what = ", ".join(f"{key} {before.get(key)} then, {now[key]} now" for key in changed)
        warnings.append(f"{what}: the rest of the run may differ in its bits from an uninterrupted one")
    if now["threads"] > default_threads():
        threads, processors = count_of(now["threads"], "thread"), count_of(default_threads(), "processor")
        warnings.append(f"{threads} as before, on {processors} now: this is slow")
    return warnings
