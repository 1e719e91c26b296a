"""The training loop: progress records, validation, divergence."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.data.images import Binarize, Images
from vaelab.data.loader import Batches
from vaelab.models.codes import ACTIVE_KL
from vaelab.models.conditions import check_condition
from vaelab.recipe import Training
from vaelab.system.device import Precision
from vaelab.system.distributed import current_group
from vaelab.system.seeds import StepNoise
from vaelab.training.schedules import half_cosine
from vaelab.training.state import State
from vaelab.training.step import make_steps
from vaelab.training.validation import Validation, validate

TICK_SECONDS = 0.5
"""Target duration of a tick; the host waits for the device once per tick."""
MOST_STEPS_A_TICK = 4096
COLLAPSE = "posterior collapse"


class Diverged(ValueError):
    """A loss or a weight is not finite."""


@dataclass(frozen=True)
class ProgressRecord:
    """A progress record: what happened since the previous one."""

    step: int
    """Batches done since the beginning of the run."""
    epoch: int
    """Epoch of the last batch, from 1."""
    terms: dict[str, NDArray[np.float32]]
    """Name → value of each batch since the last tick."""
    seconds: float
    """Training time since the beginning of the run, without the pauses before it was resumed."""
    images_per_second: float
    validation: Validation | None = None
    checkpoint_due: bool = False
    stopped: bool = False
    """Whether training was asked to stop before its end."""
    warnings: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Sentences that take back an earlier warning; each begins with that warning's words up to the colon."""


def train(
    state: State,
    batches: Batches,
    settings: Training,
    *,
    binarize: Binarize,
    precision: Precision,
    valid: Images | None,
    stop: Callable[[], bool] = lambda: False,
    seconds_before: float = 0.0,
) -> Iterator[ProgressRecord]:
    """Train ``state`` to the recipe's end; yields a record at each record, when the caller may store the state.

    Raises Diverged after the record that holds the last good batches. ``valid`` is binarised already.
    """
    total = settings.num_steps(batches.num_images)
    every = settings.validate_every
    assert every != "auto", "resolve the recipe first"
    if valid is not None:
        check_condition(state.vae.spec, valid)
    noise = StepNoise(settings.seed, state.vae.device)
    lr_schedule = (lambda step: half_cosine(step, total)) if settings.decay == "cosine" else None
    steps = make_steps(state, batches, noise, binarize, precision, lr_schedule)
    began, length = time.perf_counter(), 1
    while state.step < total:
        first = state.step
        last = min(first + length, total, *(_next(first, n) for n in (every, settings.checkpoint_every) if n))
        tick_began = time.perf_counter()
        values = steps.run(first, last, stop).cpu().numpy()  # the only wait for the device
        elapsed = time.perf_counter() - tick_began
        length, stopped = _agree(_next_length(length, elapsed), state.step < last or stop())
        good, problem = _check_finite(steps.names, values, first, settings)
        due = state.step == total or state.step % settings.checkpoint_every == 0 or stopped
        problem = problem or (_check_weights(state, settings) if due else None)
        validation = None
        if not problem and every and valid is not None and (state.step % every == 0 or state.step == total):
            validation = validate(state, valid, settings)
        warnings, withdrawn = _judge_collapse(state, validation)
        done = sum(batches.shard(step).total for step in range(first, state.step))
        yield ProgressRecord(
            step=first + good if problem else state.step,
            epoch=batches.epoch(max(state.step - 1, 0)) + 1,
            terms={name: values[:good, i] for i, name in enumerate(steps.names)},
            seconds=seconds_before + time.perf_counter() - began,
            images_per_second=done / elapsed,
            validation=validation,
            checkpoint_due=due and not problem,
            stopped=stopped and state.step < total,
            warnings=(*steps.notes, *warnings),
            withdrawn=withdrawn,
        )
        steps.notes.clear()
        if problem:
            raise Diverged(problem)
        if stopped and state.step < total:
            return


def _next_length(length: int, elapsed: float) -> int:
    """Steps of the next record, after one of ``length`` steps took ``elapsed`` seconds."""
    wanted = int(np.clip(length * TICK_SECONDS / max(elapsed, 1e-6), max(1, length // 2), 2 * length))
    return min(wanted, MOST_STEPS_A_TICK)


def _agree(length: int, stopped: bool) -> tuple[int, bool]:
    """The first rank's length of a record, and whether any rank was asked to stop."""
    together = current_group()
    words = torch.tensor([length if together.is_main else 0, int(stopped)])
    length, stopped_ranks = together.all_reduce_(words).tolist()
    return length, stopped_ranks > 0


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _check_finite(
    names: list[str], values: NDArray[np.float32], first: int, settings: Training
) -> tuple[int, str | None]:
    """Number of rows before the first that is not finite, and the error message for that row."""
    finite = np.isfinite(values)
    if finite.all():
        return len(values), None
    row = int(np.argmin(finite.all(1)))
    terms = [name for i, name in enumerate(names) if not finite[row, i]]
    culprit = next((name for name in terms if name != "loss"), "loss")
    value = values[row, names.index(culprit)]
    return row, (
        f"step {first + row + 1}: {culprit} is {value}. "
        f"Try a new run with a lower training.learning_rate (now {settings.learning_rate:g})"
        + (" or training.precision=fp32" if settings.precision not in ("auto", "fp32") else "")
    )


def _check_weights(state: State, settings: Training) -> str | None:
    """The error message if a tensor of a checkpoint is not finite."""
    broken = next((name for name, tensor in state.tensors().items() if not bool(torch.isfinite(tensor).all())), None)
    if broken is None:
        return None
    return (
        f"step {state.step}: {broken} is no longer finite. "
        f"Try a new run with a lower training.learning_rate (now {settings.learning_rate:g})"
    )


def _judge_collapse(state: State, validation: Validation | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings of a posterior collapse, and sentences that withdraw one; each is given once."""
    if validation is None:
        return (), ()
    largest = max(validation.kl_groups)
    is_collapsed, was_warned = largest < ACTIVE_KL, COLLAPSE in state.warned
    if was_warned and not is_collapsed:
        state.warned.discard(COLLAPSE)
        return (), (f"{COLLAPSE}: over by step {state.step}, a latent carries {largest:.2g} nats",)
    if was_warned or not is_collapsed or state.step < state.objective.warmup_steps:
        return (), ()
    state.warned.add(COLLAPSE)
    text = (
        f"{COLLAPSE}: after step {state.step} no latent carries more than {largest:.2g} nats, so the decoder "
        f"ignores the code; try {state.objective.advise_kl(larger=True)} or a smaller decoder"
    )
    return (text,), ()
