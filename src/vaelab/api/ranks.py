"""A training of several processes: what the first tells the others, and what those do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab.api.run_images import load_images
from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.models.conditions import condition_names, training_rows
from vaelab.recipe import Recipe
from vaelab.system.device import Precision, deterministic, resolve_device
from vaelab.system.distributed import LostRank, current_group, join_group
from vaelab.system.signals import Interrupted, stop_signals
from vaelab.training import loop as training
from vaelab.training.state import State, begin
from vaelab.training.step import memory_of_a_step


@dataclass(frozen=True)
class Plan:
    """What the first of several processes tells the others of the training that they begin."""

    recipe: Recipe
    place: str | None
    """Where its data lies."""
    data_sha256: str
    valid_sha256: str
    device: str
    """Its kind: of several on a host each process takes its own."""
    precision: Precision
    threads: int
    selections: Mapping[str, Mapping[str, Any]]
    """What finds the first's pictures again."""


def prepare(plan: Plan, images: Images, device: torch.device) -> tuple[State, Batches]:
    """A state at step 0 and the batches of a training."""
    recipe, settings = plan.recipe, plan.recipe.training
    names = condition_names(recipe.network["condition"], images)
    vae, objective = build(recipe, images.image_shape, len(images), names)
    vae.condition_rows = training_rows(vae.spec, images)
    state = begin(vae, objective, settings, device)
    shuffle_buffer = settings.shuffle_buffer
    assert shuffle_buffer != "auto", "resolve the recipe first"
    reserve = memory_of_a_step(state, settings, plan.precision)
    batches = Batches(
        images,
        settings.batch_size,
        settings.seed,
        device,
        shuffle_buffer=shuffle_buffer,
        group=current_group(),
        reserve=reserve,
    )
    return state, batches


def restore(state: State, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Put every rank at the step and the tensors of the first; at step 0 they agree already, by the seed."""
    step = current_group().broadcast(step)
    if step:
        state.restore(step, current_group().broadcast_tensors(tensors))


def follow(data: Path | None) -> None:
    """Train as another process than the first: the same steps, and nothing is written."""
    with join_group() as together:
        plan: Plan | None = together.broadcast(None)
        if plan is None:
            return
        place = data or (Path(plan.place) if plan.place else None)
        images = load_images(plan.recipe, place, plan.selections, verify=True)
        if (images.train.fingerprint(), images.valid.fingerprint()) != (plan.data_sha256, plan.valid_sha256):
            source = images.train.source
            raise ValueError(
                f"rank {together.rank}: the images in {source} are not those that the first rank trains on"
            )
        device = resolve_device(plan.device)
        with deterministic(device, plan.precision, plan.threads), stop_signals() as stop:
            state, batches = prepare(plan, images.train, device)
            restore(state, 0, {})
            records = training.train(
                state,
                batches,
                plan.recipe.training,
                binarize=plan.recipe.data["binarize"],
                precision=plan.precision,
                valid=images.valid,
                stop=stop,
            )
            try:
                for record in records:
                    if record.stopped:
                        raise Interrupted(f"rank {together.rank} of {together.world_size}: stopped")
            except training.Diverged:
                raise LostRank(together, "ended for the reason that rank 0 gives") from None
            finally:
                batches.close()
