"""The training loop: yields a progress record about twice a second."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.models.conditions import check_condition
from vaelab.system.distributed import current_group
from vaelab.system.signals import Ask, Request
from vaelab.training.checks import check_terms, check_weights, find_collapse
from vaelab.training.settings import Settings
from vaelab.training.state import State
from vaelab.training.step import make_steps
from vaelab.training.validation import Validation, validate

RECORD_SECONDS = 0.5
"""Target time between progress records; the host waits for the device once per record."""
MAX_STEPS_PER_RECORD = 4096


@dataclass(frozen=True)
class ProgressRecord:
    """The progress since the previous record."""

    step: int
    """Batches done since the beginning of the run."""
    epoch: int
    """Epoch of the last batch, from 1."""
    terms: dict[str, NDArray[np.float32]]
    """Name → value of each batch since the previous record."""
    seconds: float
    """Training time since the beginning of the run, without pauses between interruption and resumption."""
    images_per_second: float
    validation: Validation | None = None
    checkpoint_due: bool = False
    stopped: bool = False
    """Whether training was asked to stop before its end."""
    finished_early: bool = False
    """Whether training was asked to finish before its end, and has."""
    warnings: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Sentences that withdraw an earlier warning; each starts with the words of that warning up to the colon."""


def train(
    state: State,
    batches: Batches,
    settings: Settings,
    *,
    valid: Images | None,
    stop: Ask = lambda: Request.NONE,
    finish: bool = False,
    seconds_before: float = 0.0,
) -> Iterator[ProgressRecord]:
    """Train ``state`` to the end of the run; yield progress records, at which the caller may store the state.

    Every rank runs this function and gets the same records. ``valid``: held-out images, already binarised. ``stop``
    returns whether to stop or finish after the current batch; ``finish``: finish without a further one. Raises Diverged
    after the record that holds the last good batches.
    """
    if valid is not None:
        check_condition(state.vae.spec, valid)
    is_over = state.best is not None and state.best.is_over  # killed before it could finish
    if (finish or is_over) and 0 < state.step < settings.num_steps:
        yield _end_here(state, batches, settings, valid, seconds_before)
        return
    group, steps, num_steps = current_group(), make_steps(state, batches, settings), settings.num_steps
    pauses = [every for every in (settings.validate_every, settings.checkpoint_every) if every]
    started, length = time.perf_counter(), 1
    saved, longest = started, settings.checkpoint_seconds
    while state.step < num_steps:
        first, record_started = state.step, time.perf_counter()
        last = min(first + length, num_steps, *((first // every + 1) * every for every in pauses))
        rows, request = [], int(Request.NONE)
        while state.step < last and not request:
            rows.append(steps.take(state.step))
            state.step += 1
            if group.world_size == 1 or state.step == last:  # ranks stop after the same batch
                request = stop()
        values = group.all_reduce_(torch.stack(rows)).cpu().numpy()  # the only wait for the device
        elapsed = time.perf_counter() - record_started
        is_time = time.perf_counter() - saved >= longest
        length, request, is_time = _agree(_choose_length(length, elapsed), request, is_time)
        is_last = state.step == num_steps or request == Request.FINISH
        due = is_last or state.step % settings.checkpoint_every == 0 or request > 0 or is_time
        validates = settings.validate_every and (state.step % settings.validate_every == 0 or is_last)
        num_good, problem = check_terms(steps.names, values, first, settings)
        problem = problem or (check_weights(state, settings) if due or (validates and state.best) else None)
        validation = _validate(state, valid, settings) if validates and not problem else None
        if state.best is not None and state.best.is_over:
            is_last = due = True
        if due:
            saved, longest = time.perf_counter(), 10 * settings.checkpoint_seconds
        warnings, withdrawn = find_collapse(state, validation)
        yield ProgressRecord(
            step=first + num_good if problem else state.step,
            epoch=batches.epoch(max(state.step - 1, 0)) + 1,
            terms={name: values[:num_good, i] for i, name in enumerate(steps.names)},
            seconds=seconds_before + time.perf_counter() - started,
            images_per_second=sum(batches.shard(step).total for step in range(first, state.step)) / elapsed,
            validation=validation,
            checkpoint_due=due and not problem,
            stopped=request > 0 and not is_last,
            finished_early=is_last and state.step < num_steps,
            warnings=(*steps.notes, *warnings),
            withdrawn=withdrawn,
        )
        steps.notes.clear()
        if problem:
            raise problem
        if request or is_last:
            return


def _end_here(
    state: State, batches: Batches, settings: Settings, valid: Images | None, seconds: float
) -> ProgressRecord:
    """Return the last record of a run that ends at the step of its checkpoint."""
    is_validated = not settings.validate_every or state.step % settings.validate_every == 0
    return ProgressRecord(
        step=state.step,
        epoch=batches.epoch(state.step - 1) + 1,
        terms={"loss": np.empty(0, np.float32)},
        seconds=seconds,
        images_per_second=0.0,
        validation=None if is_validated else _validate(state, valid, settings),
        finished_early=True,
    )


def _validate(state: State, valid: Images | None, settings: Settings) -> Validation | None:
    """Return the results of the averaged weights on held-out images, and note whether they are the best so far.

    While an objective warms up, the loss that it will have afterwards is compared, and the patience is not used up
    (as in the code of Tomczak & Welling 2018, 1705.07120).
    """
    if valid is None:
        return None
    with state.averaged():
        validation = validate(state, valid, settings)
        if state.best is not None:
            is_warm = state.step >= state.objective.warmup_steps
            state.best.update(state.vae, validation.final_loss, state.step, waits=is_warm)
    return validation


def _choose_length(length: int, elapsed: float) -> int:
    """Return the number of steps until the next record, after ``length`` steps took ``elapsed`` seconds."""
    wanted = int(np.clip(length * RECORD_SECONDS / max(elapsed, 1e-6), max(1, length // 2), 2 * length))
    return min(wanted, MAX_STEPS_PER_RECORD)


def _agree(length: int, request: int, is_time: bool) -> tuple[int, int, bool]:
    """Return rank 0's ``length`` and ``is_time``, and the strongest request of all ranks."""
    group = current_group()
    of_main = [length, int(is_time)] if group.is_main else [0, 0]
    given = [*of_main, int(request == Request.STOP), int(request == Request.FINISH)]
    length, is_due, stopping, finishing = group.all_reduce_(torch.tensor(given)).tolist()
    return length, Request.FINISH if finishing else Request.STOP if stopping else Request.NONE, is_due > 0
