"""Training steps: forward, backward, optimizer; run eagerly or captured as CUDA graphs."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vaelab.data.images import Binarize, to_float
from vaelab.data.loader import Batches, RawBatch
from vaelab.recipe import Training
from vaelab.system.cuda_graph import CannotCapture, capture, warm_up
from vaelab.system.device import Precision, autocast
from vaelab.system.distributed import Shard, current_group
from vaelab.system.seeds import Noise, StepNoise
from vaelab.training.objectives import Context, compute_terms
from vaelab.training.state import State

Replay = Callable[[], None]
Schedule = Callable[[int], float]
"""Step → learning-rate multiplier."""
RESERVED_BYTES = 1 << 29
"""GPU bytes reserved for cuDNN and cuBLAS workspaces."""


def as_floats(
    pixels: UInt8[Tensor, "batch height width channel"], binarize: Binarize, noise: Noise
) -> Float[Tensor, "batch channel height width"]:
    """A batch in [0, 1]; "dynamic" binarisation draws every pixel anew."""
    x = to_float(pixels)
    if binarize != "dynamic":
        return x
    draws = noise.uniform(*pixels.shape).permute(0, 3, 1, 2)
    return (draws < x).to(x.dtype)


class Steps(ABC):
    """The steps of a training, each a pure function of the state, the data and its number."""

    def __init__(
        self,
        state: State,
        batches: Batches,
        noise: StepNoise,
        binarize: Binarize,
        precision: Precision,
        lr_schedule: Schedule | None = None,
    ) -> None:
        self._state, self._batches, self._noise = state, batches, noise
        self._binarize: Binarize = binarize
        self._precision: Precision = precision
        self._lr_schedule, self._rates = lr_schedule, [float(group["lr"]) for group in state.optimizer.param_groups]
        self._group = current_group()
        self._gradients: Tensor | None = None
        """Flat buffer of all gradients; None where neither several ranks nor a CUDA graph need one."""
        self.names: list[str] = []
        """Names of the terms."""
        self.notes: list[str] = []
        """Sentences for the user about how the steps are run."""

    def run(self, first: int, last: int, stop: Callable[[], bool]) -> Float[Tensor, "step term"]:
        """Run steps ``first`` to ``last`` − 1; returns the terms, one row per step. ``stop`` ends a rank alone."""
        is_alone = self._group.world_size == 1
        rows: list[Tensor] = []
        for step in range(first, last):
            rows.append(self.take(step))
            self._state.step = step + 1
            if is_alone and stop():
                break
        return self._group.all_reduce_(torch.stack(rows))

    @abstractmethod
    def take(self, step: int) -> Float[Tensor, " term"]:
        """One step; this rank's part of the mean of each term."""

    def _set_rates(self, step: int) -> None:
        if self._lr_schedule is None:
            return
        for group, rate in zip(self._state.optimizer.param_groups, self._rates, strict=True):
            now = rate * self._lr_schedule(step)
            group["lr"] = group["lr"].fill_(now) if isinstance(group["lr"], Tensor) else now

    def _differentiate(self, raw: RawBatch, step: Tensor, shard: Shard) -> Float[Tensor, " term"]:
        """Forward and backward pass; returns the terms and leaves the gradients in the parameters."""
        state = self._state
        batch = self._batches.complete(as_floats(raw.pixels, self._binarize, self._noise), raw.index)
        with autocast(batch.x.device, self._precision):
            _, terms = compute_terms(state.objective, state.vae, batch, Context(step, self._noise, state.vae))
        if self._gradients is None:
            state.optimizer.zero_grad(set_to_none=True)
        else:
            self._gradients.zero_()
        loss = terms["loss"] if self._group.world_size == 1 else terms["loss"] * shard.weight
        loss.backward()  # type: ignore[no-untyped-call]
        self.names = self.names or list(terms)
        row = torch.stack([terms[name].detach().float() for name in self.names])
        return row if self._group.world_size == 1 else row * shard.weight

    def _reduce(self) -> None:
        """Sum the gradients over ranks; each rank has weighted its own by its share."""
        if self._gradients is not None:
            self._group.all_reduce_(self._gradients)


class EagerSteps(Steps):
    """Steps that run operation by operation; for the CPU."""

    def take(self, step: int) -> Float[Tensor, " term"]:
        """Gather, forward, backward, Adam."""
        if self._gradients is None and self._group.world_size > 1:
            self._gradients = self._state.flatten_gradients()
        shard = self._batches.shard(step)
        self._noise.seek(step, shard)
        self._set_rates(step)
        number = torch.full((), step, device=self._noise.device, dtype=torch.int64)
        row = self._differentiate(self._batches.batch(step), number, shard)
        self._reduce()
        self._state.optimizer.step()
        return row


class CapturedSteps(Steps):
    """Steps that are captured as a CUDA graph, once for each batch size, and replayed; for CUDA.

    Every tensor of a step keeps its address. On the CPU nothing can be captured and the same code runs directly.
    """

    def __init__(
        self,
        state: State,
        batches: Batches,
        noise: StepNoise,
        binarize: Binarize,
        precision: Precision,
        lr_schedule: Schedule | None = None,
    ) -> None:
        super().__init__(state, batches, noise, binarize, precision, lr_schedule)
        device = noise.device
        if lr_schedule is not None:  # where graphs read them
            for group, rate in zip(state.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = torch.tensor(rate, device=device)
        self._gradients = state.flatten_gradients()
        self._can_capture = True
        self._replays: dict[int, Replay] = {}
        self._step, self._start = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64, device=device))
        self._inputs: dict[int, RawBatch] = {}
        self._row = torch.empty(0, device=device)

    def take(self, step: int) -> Float[Tensor, " term"]:
        """One step queued on the device; nothing waits for it."""
        shard = self._batches.shard(step)
        self._noise.seek(step, shard)
        if shard.total not in self._replays:
            self._fill_inputs(step, shard)
            self._replays[shard.total] = self._prepare(shard)
            self._noise.seek(step, shard)
        self._fill_inputs(step, shard)
        self._replays[shard.total]()
        return self._row.clone()  # in stream order: before the next step writes there

    def _fill_inputs(self, step: int, shard: Shard) -> None:
        """Copy the inputs of a step to where its graph reads them."""
        self._step.fill_(step)
        self._set_rates(step)
        batches = self._batches
        if batches.resident is None:
            given = batches.host_batch(step)
            if shard.total not in self._inputs:
                device = self._noise.device
                self._inputs[shard.total] = RawBatch(
                    *(torch.empty_like(t, device=device) for t in vars(given).values())
                )
            for held, new in zip(vars(self._inputs[shard.total]).values(), vars(given).values(), strict=True):
                held.copy_(new, non_blocking=True)
            return
        epoch, position = divmod(step, batches.steps_per_epoch)
        if self._order[0] != epoch:
            order = torch.from_numpy(batches.order(epoch))
            order = order.pin_memory() if self._noise.device.type == "cuda" else order
            # graphs read from the buffer of the last epoch: overwrite it
            held = self._order[1] if len(self._order[1]) else torch.empty_like(order, device=self._noise.device)
            self._order = (epoch, held.copy_(order, non_blocking=True))
        self._start.fill_(position * batches.batch_size + shard.rows.start)

    def _input(self, shard: Shard) -> RawBatch:
        """This rank's part of the batch: the copied input, or rows of the resident pixels."""
        if self._batches.resident is None:
            return self._inputs[shard.total]
        places = self._start + torch.arange(len(shard.rows), device=self._noise.device)
        index = self._order[1][places]
        return RawBatch(self._batches.resident[index], index)

    def _prepare(self, shard: Shard) -> Replay:
        """Capture a step on batches of this size and return its replay; leaves the state unchanged."""

        def differentiate() -> None:
            row = self._differentiate(self._input(shard), self._step, shard)
            if not len(self._row):
                self._row = torch.empty_like(row)
            self._row.copy_(row)

        def update() -> None:
            self._state.optimizer.step()

        def whole() -> None:
            differentiate()
            update()

        def in_parts() -> None:
            parts[0]()
            self._reduce()
            parts[1]()

        parts: list[Replay] = [differentiate, update]

        before = {name: tensor.clone() for name, tensor in self._state.tensors().items()}
        warm_up(whole, self._noise.device)
        for name, tensor in self._state.tensors().items():
            tensor.copy_(before[name]) if name in before else tensor.zero_()
        try:
            if not self._can_capture:
                return whole if self._group.world_size == 1 else in_parts
            if self._group.world_size == 1:
                return capture(whole, self._noise.generator)
            parts = [capture(work, self._noise.generator) for work in (differentiate, update)]
        except CannotCapture as error:
            self.notes.append(f"this step cannot be captured as a CUDA graph ({error}): it runs uncaptured, and slower")
            self._can_capture = False
        return in_parts


def make_steps(
    state: State,
    batches: Batches,
    noise: StepNoise,
    binarize: Binarize,
    precision: Precision,
    lr_schedule: Schedule | None = None,
) -> Steps:
    """Captured steps on CUDA, eager ones elsewhere."""
    kind = CapturedSteps if noise.device.type == "cuda" else EagerSteps
    return kind(state, batches, noise, binarize, precision, lr_schedule)


def memory_of_a_step(state: State, settings: Training, precision: Precision) -> int:
    """GPU bytes that training takes besides the data, measured on one batch; 0 on the CPU."""
    device = state.vae.device
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    shard = current_group().shard(settings.batch_size)
    noise = StepNoise(settings.seed, device)
    noise.seek(0, shard)  # terms of the whole batch are gathered by it
    batch = state.example_batch(len(shard.rows))
    with autocast(device, precision):
        step = torch.zeros((), dtype=torch.int64, device=device)
        _, terms = compute_terms(state.objective, state.vae, batch, Context(step, noise, state.vae))
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    state.optimizer.zero_grad(set_to_none=True)
    activations = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    # one set of activations for warming up and one for the graph of each of two batch sizes; Adam's moments; workspaces
    return 3 * activations + 3 * before + RESERVED_BYTES
