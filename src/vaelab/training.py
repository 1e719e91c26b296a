"""The training loop: the only place that takes a gradient."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.batches import Batches
from vaelab.capture import CannotCapture, capture, warm_up
from vaelab.images import Binarize, Images, to_float
from vaelab.ranks import Share, ranks
from vaelab.recipe import Training
from vaelab.runtime import Noise, Precision, autocast
from vaelab.state import State
from vaelab.validation import validate

Launch = Callable[[], None]
TICK_SECONDS = 0.5
"""How long a tick should take: the host looks at the device this often."""
MOST_STEPS_A_TICK = 4096
RESERVED_BYTES = 1 << 29
"""Of an accelerator, kept free for what libraries take."""
COLLAPSED_KL = 0.01
"""Nats below which a latent carries nothing (Burda et al. 2016, 1509.00519, use the like for active units)."""


class Diverged(ValueError):
    """A loss or a weight is no longer a number."""


@dataclass(frozen=True)
class Tick:
    """What happened since the one before."""

    step: int
    """Batches done since the beginning of the run."""
    epoch: int
    """Epoch of the last batch, from 1."""
    terms: dict[str, NDArray[np.float32]]
    """Name → value of each batch since the last tick."""
    seconds: float
    """Since the beginning of the run, pauses between resumptions left out."""
    images_per_second: float
    validation: dict[str, float] | None = None
    checkpoint_due: bool = False
    stopped: bool = False
    """Asked to stop before the end."""
    warnings: tuple[str, ...] = ()


def present(pixels: UInt8[Tensor, "batch height width channel"], binarize: Binarize, noise: Noise) -> Tensor:
    """A batch as the model sees it in training; "dynamic" draws every pixel anew."""
    x = to_float(pixels)
    if binarize != "dynamic":
        return x
    draws = noise.uniform(*pixels.shape).permute(0, 3, 1, 2)
    return (draws < x).to(x.dtype)


class Steps:
    """The steps of a training one after the other, each a pure function of the state, the data and its number.

    On the CPU a step is carried out as it is written. On CUDA everything that it works on keeps its place in memory,
    and what it does (gather, scale, forward, backward, Adam, a row of the history) is captured once for each size of
    batch and launched as a graph. ``make_graph`` makes the launch of a piece of work; tests give one that captures
    nothing.
    """

    def __init__(
        self,
        state: State,
        batches: Batches,
        noise: Noise,
        binarize: Binarize,
        precision: Precision,
        make_graph: Callable[[Callable[[], None], Noise], Launch] | None = None,
    ) -> None:
        self._state, self._batches, self._noise = state, batches, noise
        self._binarize: Binarize = binarize
        self._precision: Precision = precision
        self._ranks = ranks()
        device = state.vae.device
        self._make_graph = make_graph or (_capture if device.type == "cuda" else None)
        is_shared = self._ranks.size > 1 or self._make_graph is not None
        self._gradients = state.flatten_gradients() if is_shared else None
        self.names: list[str] = []
        """Of the terms."""
        self.notes: list[str] = []
        """What the person should know of how the steps are carried out."""
        self._launches: dict[int, Launch] = {}
        self._step, self._row, self._start = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(3))
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64, device=device))
        self._inputs: dict[int, Tensor] = {}
        self._rows = torch.empty(0, device=device)

    def run(self, first: int, last: int, stop: Callable[[], bool]) -> Tensor:
        """Steps ``first`` to ``last``, or until asked to stop where there is one rank: values, one row a step."""
        is_alone = self._ranks.size == 1
        rows: list[Tensor] = []
        self._row.zero_()
        for step in range(first, last):
            if self._make_graph is None:
                rows.append(self._take(step))
            else:
                self._launch(step, self._make_graph)
            self._state.step = step + 1
            if is_alone and stop():
                break
        values = torch.stack(rows) if rows else self._rows[: self._state.step - first]
        return self._ranks.sum_(values)

    def _take(self, step: int) -> Tensor:
        """One step carried out here and now."""
        share = self._batches.share(step)
        self._noise.seek(step, share)
        self._step = torch.full((), step, device=self._noise.device, dtype=torch.int64)
        row = self._differentiate(self._batches.pixels(step), share)
        self._reduce()
        self._state.optimizer.step()
        return row

    def _differentiate(self, pixels: Tensor, share: Share) -> Tensor:
        """Forward and backward: the terms' part in the mean over the batch; gradients lie in the parameters."""
        state = self._state
        x = present(pixels, self._binarize, self._noise)
        with autocast(x.device, self._precision):
            terms: dict[str, Tensor] = state.objective(state.vae, x, self._step)
        if self._gradients is None:
            state.optimizer.zero_grad(set_to_none=True)
        else:
            self._gradients.zero_()
        loss = terms["loss"] if self._ranks.size == 1 else terms["loss"] * share.weight
        loss.backward()  # type: ignore[no-untyped-call]
        self.names = self.names or list(terms)
        row = torch.stack([terms[name].detach().float() for name in self.names])
        return row if self._ranks.size == 1 else row * share.weight

    def _reduce(self) -> None:
        """Add up the gradients of all ranks, each weighed by its share already."""
        if self._gradients is not None:
            self._ranks.sum_(self._gradients)

    # -- on CUDA: everything in its place, launched --

    def _launch(self, step: int, make_graph: Callable[[Callable[[], None], Noise], Launch]) -> None:
        share = self._batches.share(step)
        self._noise.seek(step, share)
        if share.total not in self._launches:
            self._fill_inputs(step, share)
            self._launches[share.total] = self._prepare(share, make_graph)
            self._noise.seek(step, share)
        self._fill_inputs(step, share)
        self._launches[share.total]()

    def _fill_inputs(self, step: int, share: Share) -> None:
        """What is new for a step, written where its graph reads it."""
        self._step.fill_(step)
        batches = self._batches
        if batches.resident is None:
            pixels = batches.pixels(step)
            self._inputs.setdefault(share.total, torch.empty_like(pixels)).copy_(pixels, non_blocking=True)
            return
        epoch, position = divmod(step, batches.steps_per_epoch)
        if self._order[0] != epoch:
            order = torch.from_numpy(batches.order(epoch))
            # the old place, which graphs read from, holds the new order
            held = self._order[1] if len(self._order[1]) else torch.empty_like(order, device=self._noise.device)
            self._order = (epoch, held.copy_(order))
        self._start.fill_(position * batches.batch_size + min(share.start, share.total - 1))

    def _input(self, share: Share) -> Tensor:
        """The pixels of this rank's part of the batch, from where ``_fill_inputs`` wrote what to take."""
        if self._batches.resident is None:
            return self._inputs[share.total]
        places = self._start + torch.arange(max(len(share), 1), device=self._noise.device)
        return self._batches.resident[self._order[1][places]]

    def _prepare(self, share: Share, make_graph: Callable[[Callable[[], None], Noise], Launch]) -> Launch:
        """The launch of a step on batches of this size; the state is afterwards as it was before."""

        def differentiate() -> None:
            row = self._differentiate(self._input(share), share)
            if not len(self._rows):
                self._rows = row.new_zeros(MOST_STEPS_A_TICK, len(row))
            self._rows.index_copy_(0, self._row[None], row[None])
            self._row.add_(1)

        def update() -> None:
            self._state.optimizer.step()

        def whole() -> None:
            differentiate()
            update()

        before, row = {name: tensor.clone() for name, tensor in self._state.tensors().items()}, self._row.clone()
        try:
            warm_up(whole)
        finally:
            for name, tensor in self._state.tensors().items():
                tensor.copy_(before[name]) if name in before else tensor.zero_()
            self._row.copy_(row)
        try:
            if self._ranks.size == 1:
                return make_graph(whole, self._noise)
            parts = [make_graph(work, self._noise) for work in (differentiate, update)]
        except CannotCapture as error:
            self.notes.append(f"this step cannot be captured as a CUDA graph ({error}): it runs uncaptured, and slower")
            parts = [differentiate, update]

        def in_parts() -> None:
            parts[0]()
            self._reduce()
            parts[1]()

        return in_parts


def _capture(work: Callable[[], None], noise: Noise) -> Launch:
    assert noise.generator is not None
    return capture(work, [noise.generator])


def memory_of_a_step(state: State, image_shape: tuple[int, int, int], settings: Training, precision: Precision) -> int:
    """Bytes of the accelerator that training takes besides the data: measured on one batch; 0 on the CPU."""
    device, (channels, height, width) = state.vae.device, image_shape
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    state.vae.noise = Noise(settings.seed, device)
    pixels = torch.zeros(settings.batch_size, height, width, channels, dtype=torch.uint8, device=device)
    with autocast(device, precision):
        terms = state.objective(state.vae, to_float(pixels), torch.zeros((), dtype=torch.int64, device=device))
    terms["loss"].backward()
    state.optimizer.zero_grad(set_to_none=True)
    activations = torch.cuda.max_memory_allocated(device) - before
    # Once for warming up and once in a graph of each of two sizes; Adam's moments; workspaces of libraries.
    return 3 * activations + 3 * before + RESERVED_BYTES


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
) -> Iterator[Tick]:
    """Train ``state`` to the recipe's end; yields at each tick, when the caller may store or save what it likes.

    Raises Diverged after the tick that holds the last good batches. ``valid`` comes binarised as it is to be measured.
    """
    total = settings.num_steps(batches.num_images)
    every = settings.validate_every
    assert every != "auto", "settle the recipe first"
    state.vae.noise = noise = Noise(settings.seed, state.vae.device)
    steps = Steps(state, batches, noise, binarize, precision)
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
        problem = problem or (_check_weights(state) if due else None)
        validation = None
        if not problem and every and valid is not None and (state.step % every == 0 or state.step == total):
            validation = validate(state, valid, settings)
        done = sum(batches.share(step).total for step in range(first, state.step))
        yield Tick(
            step=first + good if problem else state.step,
            epoch=batches.epoch(max(state.step - 1, 0)) + 1,
            terms={name: values[:good, i] for i, name in enumerate(steps.names)},
            seconds=seconds_before + time.perf_counter() - began,
            images_per_second=done / elapsed,
            validation=validation,
            checkpoint_due=due and not problem,
            stopped=stopped and state.step < total,
            warnings=(*steps.notes, *_warnings(state, validation)),
        )
        steps.notes.clear()
        if problem:
            raise Diverged(problem)
        if stopped and state.step < total:
            return


def _next_length(length: int, elapsed: float) -> int:
    """Steps of the next tick, after one of ``length`` steps took ``elapsed`` seconds."""
    wanted = int(np.clip(length * TICK_SECONDS / max(elapsed, 1e-6), max(1, length // 2), 2 * length))
    return min(wanted, MOST_STEPS_A_TICK)


def _agree(length: int, stopped: bool) -> tuple[int, bool]:
    """The first rank's length of a tick, and whether any rank was asked to stop."""
    together = ranks()
    words = torch.tensor([length if together.is_first else 0, int(stopped)])
    length, stopped_ranks = together.sum_(words).tolist()
    return length, stopped_ranks > 0


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _check_finite(
    names: list[str], values: NDArray[np.float32], first: int, settings: Training
) -> tuple[int, str | None]:
    """Rows before the first that is not finite, and what to say about that one."""
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


def _check_weights(state: State) -> str | None:
    """What to say if anything that a checkpoint holds is not finite."""
    broken = next((name for name, tensor in state.tensors().items() if not bool(torch.isfinite(tensor).all())), None)
    if broken is None:
        return None
    rate = state.optimizer.param_groups[0]["lr"]
    return (
        f"step {state.step}: {broken} is no longer finite. "
        f"Try a new run with a lower training.learning_rate (now {rate:g})"
    )


def _warnings(state: State, validation: dict[str, float] | None) -> tuple[str, ...]:
    """What should worry a person, each said once a run."""
    if validation is None or "collapsed" in state.warned:
        return ()
    largest = max(value for name, value in validation.items() if name.startswith("kl_"))
    if largest >= COLLAPSED_KL or state.step < getattr(state.objective, "warmup_steps", 0):
        return ()
    state.warned.add("collapsed")
    return (
        f"posterior collapse: after step {state.step} no latent carries more than {largest:.2g} nats, so the decoder "
        "ignores the code; try a smaller objective.beta, a warm-up (objective.warmup_steps) or a smaller decoder",
    )
