"""The training loop: the only place that takes a gradient."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.batches import Batches
from vaelab.images import Binarize, Images, to_float
from vaelab.model import VAE, Pass
from vaelab.recipe import Training
from vaelab.runtime import Noise, Precision, autocast, derive_seed

TICK_SECONDS = 0.5
"""How long a tick should take: the host looks at the device this often."""
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


@dataclass
class State:
    """Everything that changes while a model trains; with the recipe and the data it determines what follows."""

    vae: VAE
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    warned: set[str] = field(default_factory=set)

    def _modules(self) -> dict[str, nn.Module]:
        return {"vae": self.vae, "objective": self.objective}

    def _named_parameters(self) -> dict[str, nn.Parameter]:
        return {f"{m}.{n}": p for m, module in self._modules().items() for n, p in module.named_parameters()}

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors with names."""
        found = {f"{m}.{n}": t for m, module in self._modules().items() for n, t in module.state_dict().items()}
        for name, parameter in self._named_parameters().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{key}.{name}"] = value
        return found

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave; the memory layout of every tensor stays that of its weight.

        Adam's moments in another layout than their weights would make the fused CPU optimizer silently wrong.
        """
        self.step = step
        for prefix, module in self._modules().items():
            own = {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
            module.load_state_dict(own)
        for name, parameter in self._named_parameters().items():
            entries = {
                n.split(".")[1]: t
                for n, t in tensors.items()
                if n.startswith("optimizer.") and n.split(".", 2)[2] == name
            }
            for key, value in entries.items():
                like = (
                    torch.empty_like(parameter)
                    if value.shape == parameter.shape
                    else torch.empty_like(value, device=parameter.device)
                )
                self.optimizer.state[parameter][key] = like.copy_(value)


def begin(vae: VAE, objective: nn.Module, settings: Training, device: torch.device) -> State:
    """Model and objective on the device, channels-last, with Adam as in the experiments (default betas)."""
    vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.to(device)
    offered: Any = getattr(objective, "parameter_groups", None)
    own = offered() if offered else [{"params": objective.parameters()}]
    groups = [{"params": list(group["params"]), **{k: v for k, v in group.items() if k != "params"}} for group in own]
    groups = [{"params": list(vae.parameters())}, *(group for group in groups if group["params"])]
    return State(vae, objective, torch.optim.Adam(groups, lr=settings.learning_rate, fused=True))


def present(pixels: UInt8[Tensor, "batch height width channel"], binarize: Binarize, noise: Noise) -> Tensor:
    """A batch as the model sees it in training; "dynamic" draws every pixel anew."""
    x = to_float(pixels)
    if binarize != "dynamic":
        return x
    draws = noise.uniform(*pixels.shape).permute(0, 3, 1, 2)
    return (draws < x).to(x.dtype)


def take_step(
    state: State, pixels: Tensor, step: Tensor, binarize: Binarize, precision: Precision
) -> dict[str, Tensor]:
    """One batch: forward, backward, Adam. The terms stay on the device."""
    noise = state.vae.noise
    assert noise is not None
    x = present(pixels, binarize, noise)
    with autocast(x.device, precision):
        terms: dict[str, Tensor] = state.objective(state.vae, x, step)
    state.optimizer.zero_grad(set_to_none=True)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


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
    device = state.vae.device
    total = settings.num_steps(batches.num_images)
    every = settings.validate_every
    assert every != "auto", "settle the recipe first"
    state.vae.noise = noise = Noise(settings.seed, device)
    began, length = time.perf_counter(), 8
    while state.step < total:
        first = state.step
        last = min(first + length, total, *(_next(first, n) for n in (every, settings.checkpoint_every) if n))
        tick_began = time.perf_counter()
        names, rows = _run_steps(state, batches, first, last, noise, binarize, precision, stop)
        values = rows.cpu().numpy()  # the only wait for the device
        elapsed = time.perf_counter() - tick_began
        length = int(np.clip(length * TICK_SECONDS / max(elapsed, 1e-6), max(1, length // 2), 2 * length))
        good, problem = _check_finite(names, values, first, settings)
        stopped = state.step < last or stop()
        due = state.step == total or state.step % settings.checkpoint_every == 0 or stopped
        problem = problem or (_check_weights(state) if due else None)
        validation = None
        if not problem and every and valid is not None and (state.step % every == 0 or state.step == total):
            validation = validate(state, valid, settings)
        done = sum(_batch_length(batches, step) for step in range(first, state.step))
        yield Tick(
            step=first + good if problem else state.step,
            epoch=batches.epoch(max(state.step - 1, 0)) + 1,
            terms={name: values[:good, i] for i, name in enumerate(names)},
            seconds=seconds_before + time.perf_counter() - began,
            images_per_second=done / elapsed,
            validation=validation,
            checkpoint_due=due and not problem,
            stopped=stopped and state.step < total,
            warnings=_warnings(state, validation),
        )
        if problem:
            raise Diverged(problem)
        if stopped and state.step < total:
            return


def _run_steps(
    state: State,
    batches: Batches,
    first: int,
    last: int,
    noise: Noise,
    binarize: Binarize,
    precision: Precision,
    stop: Callable[[], bool],
) -> tuple[list[str], Tensor]:
    """Steps ``first`` to ``last`` or until asked to stop: names of the terms, and their values one row a step."""
    rows: list[Tensor] = []
    names: list[str] = []
    for step in range(first, last):
        noise.seek(step)
        now = torch.full((), step, device=noise.device, dtype=torch.int64)
        terms = take_step(state, batches.pixels(step), now, binarize, precision)
        names = names or list(terms)
        rows.append(torch.stack([terms[name].float() for name in names]))
        state.step = step + 1
        if stop():
            break
    return names, torch.stack(rows)


@torch.no_grad()
def validate(state: State, images: Images, settings: Training) -> dict[str, float]:
    """The objective's terms, the normalised ELBO and the KL of each latent on held-out images, in float32.

    One sample of each posterior, the same noise every time. Gradient and weight norms are those of the last batch.
    """
    vae, training_noise, was_training = state.vae, state.vae.noise, state.vae.training
    vae.noise = noise = Noise(derive_seed(settings.seed, "validation"), vae.device)
    vae.eval()
    captured: list[Pass] = []
    hook = vae.register_forward_hook(lambda _module, _inputs, passed: captured.append(passed))
    sums: dict[str, Tensor] = {}
    step = torch.full((), max(state.step - 1, 0), device=vae.device, dtype=torch.int64)
    try:
        for i, start in enumerate(range(0, len(images), settings.batch_size)):
            x = images.floats(start, min(start + settings.batch_size, len(images)), vae.device)
            noise.seek(i)
            captured.clear()
            terms = {name: value.double() * len(x) for name, value in state.objective(vae, x, step).items()}
            passed = captured[0] if captured else vae(x)
            kl = passed.kl.double()
            terms["elbo"] = (passed.pixels.log_prob(x).double() - kl.sum(1)).sum()
            terms["kl_per_latent"] = kl.sum(0)
            sums = {name: sums[name] + value if name in sums else value for name, value in terms.items()}
    finally:
        hook.remove()
        vae.noise = training_noise
        vae.train(was_training)
    kl_per_latent = sums.pop("kl_per_latent").tolist()
    return {
        **{name: float(value) / len(images) for name, value in sums.items()},
        "gradient_norm": _norm([p.grad for p in vae.parameters() if p.grad is not None]),
        "weight_norm": _norm(list(vae.parameters())),
        **{f"kl_{j + 1}": value / len(images) for j, value in enumerate(kl_per_latent)},
    }


def _norm(tensors: list[Any]) -> float:
    return float(torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt()) if tensors else 0.0


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _batch_length(batches: Batches, step: int) -> int:
    position = step % batches.steps_per_epoch
    return min(batches.batch_size, batches.num_images - position * batches.batch_size)


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
