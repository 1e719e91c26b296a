"""Training steps: forward pass, backward pass, optimizer; run eagerly or replayed as CUDA graphs."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from vaelab.data.images import Binarize
from vaelab.data.loader import Batches, RawBatch
from vaelab.data.tensors import to_float
from vaelab.recipe.training import Augment
from vaelab.system.cuda_graph import CannotCapture, capture, warm_up
from vaelab.system.device import autocast
from vaelab.system.distributed import Shard, current_group
from vaelab.system.noise import Noise, StepNoise
from vaelab.training.augment import augment
from vaelab.training.objectives import Context, compute_terms
from vaelab.training.schedules import lr_schedule
from vaelab.training.settings import Settings
from vaelab.training.state import State

RESERVED_BYTES = 1 << 29
"""GPU bytes reserved for cuDNN and cuBLAS workspaces."""


def as_floats(
    pixels: Real[Tensor, "batch height width channel"],
    binarize: Binarize,
    noise: Noise,
    changes: Augment = "none",
) -> Float[Tensor, "batch channel height width"]:
    """Return a batch in [0, 1], with random ``changes``; "dynamic" binarisation then draws every pixel anew."""
    x = to_float(pixels)
    if changes != "none":
        x = augment(x, changes, noise, interpolate=binarize != "threshold")
    if binarize != "dynamic":
        return x
    draws = noise.uniform(*pixels.shape).permute(0, 3, 1, 2)
    return (draws < x).to(x.dtype)


class Steps(ABC):
    """The steps of a training run, each a pure function of the state, the data and its number."""

    def __init__(self, state: State, batches: Batches, settings: Settings, noise: StepNoise) -> None:
        self.state, self.batches, self._settings, self._noise = state, batches, settings, noise
        self._group = current_group()
        self._learning_rates = [float(group["lr"]) for group in state.optimizer.param_groups]
        self._gradients: Tensor | None = None
        """Flat buffer of all gradients; None if neither several ranks nor a CUDA graph need one."""
        self.names: list[str] = []
        """Names of the terms, known after the first step."""
        self.notes: list[str] = []
        """Sentences for the user about how the steps are run."""

    @abstractmethod
    def take(self, step: int) -> Float[Tensor, " term"]:
        """Take one step and return the terms; over ranks they add up to the means of the whole batch."""

    @property
    def _rates_change(self) -> bool:
        return self._settings.decay != "none" or self._settings.warmup_steps > 0

    def _set_learning_rates(self, step: int) -> None:
        if not self._rates_change:
            return
        settings = self._settings
        multiplier = lr_schedule(step, settings.num_steps, settings.decay, settings.warmup_steps)
        for group, rate in zip(self.state.optimizer.param_groups, self._learning_rates, strict=True):
            now = rate * multiplier
            group["lr"] = group["lr"].fill_(now) if isinstance(group["lr"], Tensor) else now

    def _differentiate(self, raw: RawBatch, step: Tensor, shard: Shard) -> Float[Tensor, " term"]:
        """Run the forward and the backward pass: leave the gradients in the parameters, return the terms."""
        x = as_floats(raw.pixels, self._settings.binarize, self._noise, self._settings.augment)
        batch, vae = self.batches.complete(x, raw.index), self.state.vae
        with autocast(x.device, self._settings.precision):
            _, terms = compute_terms(self.state.objective, vae, batch, Context(step, self._noise, vae))
        if self._gradients is None:
            self.state.optimizer.zero_grad(set_to_none=True)
        else:
            self._gradients.zero_()
        is_alone = self._group.world_size == 1
        loss = terms["loss"] if is_alone else terms["loss"] * shard.weight
        loss.backward()  # type: ignore[no-untyped-call]
        self.names = self.names or list(terms)
        row = torch.stack([terms[name].detach().float() for name in self.names])
        return row if is_alone else row * shard.weight

    def _reduce_gradients(self) -> None:
        """Sum the gradients over ranks, each of which has weighted its own by the size of its shard."""
        if self._gradients is not None:
            self._group.all_reduce_(self._gradients)

    def _update(self, step: Int[Tensor, ""]) -> None:
        """Update the weights, and their average, from the gradients of the whole batch."""
        if self._settings.clip:  # the gradient of a discriminator has a length of its own
            for module in (self.state.vae, self.state.objective):
                if parameters := list(module.parameters()):
                    nn.utils.clip_grad_norm_(parameters, self._settings.clip)
        self.state.optimizer.step()
        if self.state.average is not None:
            self.state.average.update(step)


class EagerSteps(Steps):
    """Steps that are run operation by operation; for the CPU."""

    def take(self, step: int) -> Float[Tensor, " term"]:
        """Take one step and return the terms; over ranks they add up to the means of the whole batch."""
        if self._gradients is None and self._group.world_size > 1:
            self._gradients = self.state.flatten_gradients()
        shard = self.batches.shard(step)
        self._noise.seek(step, shard)
        self._set_learning_rates(step)
        number = torch.full((), step, device=self._noise.device, dtype=torch.int64)
        row = self._differentiate(self.batches.batch(step), number, shard)
        self._reduce_gradients()
        self._update(number)
        return row


class CapturedSteps(Steps):
    """Steps that are captured as CUDA graphs, once for each batch size, and replayed.

    Every tensor of a step keeps its address. On the CPU the replay is the code itself.
    """

    def __init__(self, state: State, batches: Batches, settings: Settings, noise: StepNoise) -> None:
        super().__init__(state, batches, settings, noise)
        device = noise.device
        if self._rates_change:
            for group, rate in zip(state.optimizer.param_groups, self._learning_rates, strict=True):
                group["lr"] = torch.tensor(rate, device=device)
        self._gradients = state.flatten_gradients()
        self._can_capture = True
        self._replays: dict[int, Callable[[], None]] = {}
        self._step, self._start = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64, device=device))
        self._inputs: dict[int, RawBatch] = {}
        self._row = torch.empty(0, device=device)

    def take(self, step: int) -> Float[Tensor, " term"]:
        """Queue one step on the device without waiting for it; return its terms."""
        shard = self.load(step)
        if shard.total not in self._replays:
            self._replays[shard.total] = self._prepare(shard)
            self.load(step)  # the noise has moved on
        self._replays[shard.total]()
        return self._row.clone()  # in stream order, before the next step overwrites it

    def load(self, step: int) -> Shard:
        """Copy the inputs of a step to the addresses that its graph reads."""
        shard = self.batches.shard(step)
        self._noise.seek(step, shard)
        self._step.fill_(step)
        self._set_learning_rates(step)
        device = self._noise.device
        if self.batches.resident is None:
            batch = self.batches.host_batch(step)
            if shard.total not in self._inputs:
                buffers = (torch.empty_like(tensor, device=device) for tensor in vars(batch).values())
                self._inputs[shard.total] = RawBatch(*buffers)
            for target, source in zip(vars(self._inputs[shard.total]).values(), vars(batch).values(), strict=True):
                target.copy_(source, non_blocking=True)
            return shard
        epoch, position = divmod(step, self.batches.steps_per_epoch)
        if self._order[0] != epoch:
            order = torch.from_numpy(self.batches.order(epoch))
            order = order.pin_memory() if device.type == "cuda" else order
            buffer = self._order[1] if len(self._order[1]) else torch.empty_like(order, device=device)
            self._order = (epoch, buffer.copy_(order, non_blocking=True))
        self._start.fill_(position * self.batches.batch_size + shard.rows.start)
        return shard

    def differentiate(self, shard: Shard) -> None:
        """Compute terms and gradients of the loaded step, on the device alone."""
        if self.batches.resident is None:
            raw = self._inputs[shard.total]
        else:
            index = self._order[1][self._start + torch.arange(len(shard.rows), device=self._noise.device)]
            raw = RawBatch(self.batches.resident[index], index)
        row = self._differentiate(raw, self._step, shard)
        if not len(self._row):
            self._row = torch.empty_like(row)
        self._row.copy_(row)

    def update(self) -> None:
        """Update the weights, on the device alone."""
        self._update(self._step)

    def _prepare(self, shard: Shard) -> Callable[[], None]:
        """Capture a step on batches of this size and return its replay; the state stays as it is."""

        def differentiate() -> None:
            self.differentiate(shard)

        def take_whole() -> None:
            differentiate()
            self.update()

        def take_in_parts() -> None:
            parts[0]()
            self._reduce_gradients()
            parts[1]()

        parts: list[Callable[[], None]] = [differentiate, self.update]
        is_alone = self._group.world_size == 1
        before = {name: tensor.clone() for name, tensor in self.state.tensors().items()}
        warm_up(take_whole, self._noise.device)
        try:
            if self._can_capture and is_alone:
                return capture(take_whole, self._noise.generator)
            if self._can_capture:
                parts = [capture(work, self._noise.generator) for work in parts]
        except CannotCapture as error:
            self.notes.append(f"this step cannot be captured as a CUDA graph ({error}): it runs uncaptured, and slower")
            self._can_capture = False
        finally:
            for name, tensor in self.state.tensors().items():
                tensor.copy_(before[name]) if name in before else tensor.zero_()
        return take_in_parts


def make_steps(state: State, batches: Batches, settings: Settings) -> Steps:
    """Return captured steps on CUDA, eager ones elsewhere."""
    noise = StepNoise(settings.seed, state.vae.device)
    kind = CapturedSteps if noise.device.type == "cuda" else EagerSteps
    return kind(state, batches, settings, noise)


def measure_memory(state: State, settings: Settings) -> int:
    """Return the GPU bytes that training takes besides the data, measured on one batch; 0 on the CPU."""
    device = state.vae.device
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    shard = current_group().shard(settings.batch_size)
    noise = StepNoise(settings.seed, device)
    noise.seek(0, shard)
    batch = state.example_batch(len(shard.rows))
    with autocast(device, settings.precision):
        step = torch.zeros((), dtype=torch.int64, device=device)
        _, terms = compute_terms(state.objective, state.vae, batch, Context(step, noise, state.vae))
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    state.optimizer.zero_grad(set_to_none=True)
    activations = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    # activations: for the warm-up and the graphs of two batch sizes; before: the weights, like gradients and moments
    return 3 * activations + 3 * before + RESERVED_BYTES
