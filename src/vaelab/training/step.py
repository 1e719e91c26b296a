"""One training step after another: the only place that takes a gradient."""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Tensor

from vaelab.data.images import Binarize, to_float
from vaelab.data.loader import Batches
from vaelab.recipe import Training
from vaelab.system.cuda_graph import CannotCapture, capture, warm_up
from vaelab.system.device import Noise, Precision, autocast
from vaelab.system.distributed import Share, ranks
from vaelab.training.state import State

Launch = Callable[[], None]
RESERVED_BYTES = 1 << 29
"""Of an accelerator, kept free for what libraries take."""


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
    nothing. ``falls``: step → what every learning rate is multiplied by.
    """

    def __init__(
        self,
        state: State,
        batches: Batches,
        noise: Noise,
        binarize: Binarize,
        precision: Precision,
        make_graph: Callable[[Callable[[], None], Noise], Launch] | None = None,
        falls: Callable[[int], float] | None = None,
    ) -> None:
        self._state, self._batches, self._noise = state, batches, noise
        self._binarize: Binarize = binarize
        self._precision: Precision = precision
        self._ranks = ranks()
        device = state.vae.device
        self._make_graph = make_graph or (_capture if device.type == "cuda" else None)
        self._falls, self._rates = falls, [float(group["lr"]) for group in state.optimizer.param_groups]
        if falls is not None and self._make_graph is not None:  # where graphs read them
            for group, rate in zip(state.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = torch.tensor(rate, device=device)
        is_shared = self._ranks.size > 1 or self._make_graph is not None
        self._gradients = state.flatten_gradients() if is_shared else None
        self.names: list[str] = []
        """Of the terms."""
        self.notes: list[str] = []
        """What the person should know of how the steps are carried out."""
        self._can_capture = True
        self._launches: dict[int, Launch] = {}
        self._step, self._start = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64, device=device))
        self._inputs: dict[int, Tensor] = {}
        self._row = torch.empty(0, device=device)

    def run(self, first: int, last: int, stop: Callable[[], bool]) -> Tensor:
        """Steps ``first`` to ``last``, or until asked to stop where there is one rank: values, one row a step."""
        is_alone = self._ranks.size == 1
        rows: list[Tensor] = []
        for step in range(first, last):
            rows.append(self._take(step) if self._make_graph is None else self._launch(step, self._make_graph))
            self._state.step = step + 1
            if is_alone and stop():
                break
        return self._ranks.sum_(torch.stack(rows))

    def _take(self, step: int) -> Tensor:
        """One step carried out here and now."""
        share = self._batches.share(step)
        self._noise.seek(step, share)
        self._step = torch.full((), step, device=self._noise.device, dtype=torch.int64)
        self._set_rates(step)
        row = self._differentiate(self._batches.pixels(step), share)
        self._reduce()
        self._state.optimizer.step()
        return row

    def _set_rates(self, step: int) -> None:
        """The learning rates of a step."""
        if self._falls is None:
            return
        for group, rate in zip(self._state.optimizer.param_groups, self._rates, strict=True):
            now = rate * self._falls(step)
            group["lr"] = group["lr"].fill_(now) if isinstance(group["lr"], Tensor) else now

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

    def _launch(self, step: int, make_graph: Callable[[Callable[[], None], Noise], Launch]) -> Tensor:
        """One step queued on the device; nothing waits for it."""
        share = self._batches.share(step)
        self._noise.seek(step, share)
        if share.total not in self._launches:
            self._fill_inputs(step, share)
            self._launches[share.total] = self._prepare(share, make_graph)
            self._noise.seek(step, share)
        self._fill_inputs(step, share)
        self._launches[share.total]()
        return self._row.clone()  # in the order of the stream: before the next step writes there

    def _fill_inputs(self, step: int, share: Share) -> None:
        """What is new for a step, written where its graph reads it."""
        self._step.fill_(step)
        self._set_rates(step)
        batches = self._batches
        if batches.resident is None:
            pixels = batches.host_pixels(step)
            if share.total not in self._inputs:
                self._inputs[share.total] = torch.empty_like(pixels, device=self._noise.device)
            self._inputs[share.total].copy_(pixels, non_blocking=True)
            return
        epoch, position = divmod(step, batches.steps_per_epoch)
        if self._order[0] != epoch:
            order = torch.from_numpy(batches.order(epoch))
            order = order.pin_memory() if self._noise.device.type == "cuda" else order
            # the old place, which graphs read from, holds the new order
            held = self._order[1] if len(self._order[1]) else torch.empty_like(order, device=self._noise.device)
            self._order = (epoch, held.copy_(order, non_blocking=True))
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

        parts: list[Launch] = [differentiate, update]

        before = {name: tensor.clone() for name, tensor in self._state.tensors().items()}
        warm_up(whole, self._noise.device)
        for name, tensor in self._state.tensors().items():
            tensor.copy_(before[name]) if name in before else tensor.zero_()
        try:
            if not self._can_capture:
                return whole if self._ranks.size == 1 else in_parts
            if self._ranks.size == 1:
                return make_graph(whole, self._noise)
            parts = [make_graph(work, self._noise) for work in (differentiate, update)]
        except CannotCapture as error:
            self.notes.append(f"this step cannot be captured as a CUDA graph ({error}): it runs uncaptured, and slower")
            self._can_capture = False
        return in_parts


def _capture(work: Callable[[], None], noise: Noise) -> Launch:
    assert noise.generator is not None
    return capture(work, noise.generator)


def memory_of_a_step(state: State, image_shape: tuple[int, int, int], settings: Training, precision: Precision) -> int:
    """Bytes of the accelerator that training takes besides the data: measured on one batch; 0 on the CPU."""
    device, (channels, height, width) = state.vae.device, image_shape
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    share = ranks().share(settings.batch_size)
    state.vae.noise = Noise(settings.seed, device)
    state.vae.noise.seek(0, share)  # terms of the whole batch are gathered by it
    count = max(len(share), 1)
    pixels = torch.zeros(count, height, width, channels, dtype=torch.uint8, device=device)
    with autocast(device, precision):
        terms = state.objective(state.vae, to_float(pixels), torch.zeros((), dtype=torch.int64, device=device))
    terms["loss"].backward()
    state.optimizer.zero_grad(set_to_none=True)
    activations = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    # Once for warming up and once in a graph of each of two sizes; Adam's moments; workspaces of libraries.
    return 3 * activations + 3 * before + RESERVED_BYTES
