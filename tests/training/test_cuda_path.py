"""The captured part of a CUDA step, tested without a GPU on fake tensors, which have shape and device but no values.

Tensors on the wrong device and values read back to the host are errors there, as they are in a capture. A build of
torch without CUDA has no autograd for CUDA tensors; there the tests use another device that is not the CPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import (
    CONTROLS,
    CPU,
    CROSSED_PAIRS,
    OBJECTIVES_AND_NETWORKS,
    make_labelled,
    make_recipe,
    make_settings,
    make_state,
)
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vaelab.data.loader import Batches
from vaelab.data.tensors import as_tensor
from vaelab.system import device, registry
from vaelab.system.noise import StepNoise
from vaelab.training.ema import WeightAverage
from vaelab.training.state import State
from vaelab.training.step import CapturedSteps

DEVICE = torch.device("cuda:0" if torch.backends.cuda.is_built() else "lazy:0")


NOT_DETERMINISTIC = {"cumsum", "kthvalue", "median", "histc", "bincount", "put_", "upsample_bilinear2d_backward"}
"""Operations that torch refuses on CUDA where results must repeat bit for bit."""


class OnDeviceOnly(TorchDispatchMode):
    """Raises for every operation that takes or returns a tensor on another device than DEVICE, or does not repeat.

    float64 is an error if DEVICE has none.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation and check its tensors."""
        assert func.overloadpacket.__name__ not in NOT_DETERMINISTIC, f"{func} is not deterministic on CUDA"
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor) and tensor.device.type != DEVICE.type:
                raise AssertionError(f"{func} touches a tensor on the {tensor.device}: {tensor}")
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
                assert device.widest_float(DEVICE) == torch.float64, f"{func} has a tensor in float64"
        return result


class FakeNoise(StepNoise):
    """Noise without values."""

    def normal(self, count: int, *shape: int) -> Tensor:
        """Numbers for the images of this process."""
        return torch.empty(count, *shape, device=DEVICE)

    uniform = normal


class Descent(torch.optim.Optimizer):
    """Stands in for Adam, whose fused kernels know no such device."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step down the gradient."""
        for parameter in self.param_groups[0]["params"]:
            parameter.sub_(0.1 * parameter.grad)


def to_fake(part: nn.Module) -> None:
    """Replace parameters and buffers by ones without values on DEVICE; other tensors stay on the CPU, as on CUDA."""
    for each in part.modules():
        for name, old in each._parameters.items():
            if old is not None:
                each._parameters[name] = nn.Parameter(torch.empty_strided(old.shape, old.stride(), device=DEVICE))
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = torch.empty_like(buffer, device=DEVICE)


def compute_steps(resident: bool = True, **overrides: Any) -> None:
    """Compute a step of each batch size; its captured part may use only tensors on DEVICE."""
    made, data = make_recipe(**overrides), make_labelled()
    state, batches = make_state(made, data), Batches(data, 8, 0, CPU)
    with FakeTensorMode(allow_non_fake_inputs=True):
        to_fake(state.vae)
        to_fake(state.objective)
        optimizer = Descent([*state.vae.parameters(), *state.objective.parameters()])
        average = WeightAverage(state.vae, 0.9) if state.average else None
        state = State(state.vae, state.objective, optimizer, average)
        for name in ("_labels", "_attributes"):
            setattr(batches, name, torch.empty_like(getattr(batches, name), device=DEVICE))
        if resident:
            batches.resident = torch.empty_like(as_tensor(data.pixels), device=DEVICE)
        steps = CapturedSteps(state, batches, make_settings(made), FakeNoise(0, DEVICE))
        for step in (0, 6):  # step 6 is the smaller batch
            shard = steps.load(step)
            with OnDeviceOnly():
                steps.differentiate(shard)
                steps.update()
    assert len(steps.names) >= 3


@pytest.mark.parametrize(("objective", "network"), OBJECTIVES_AND_NETWORKS)
def test_a_step_of_every_objective(objective: str, network: str) -> None:
    compute_steps(objective__name=objective, network__name=network)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("iwae", "info")]


@pytest.mark.parametrize(("posterior", "prior"), CROSSED_PAIRS)
@pytest.mark.parametrize("objective", ["elbo", *LONG])
def test_a_step_of_every_posterior_and_prior(posterior: str, prior: str, objective: str) -> None:
    compute_steps(posterior__name=posterior, prior__name=prior, objective__name=objective)


@pytest.mark.parametrize(
    ("likelihood", "resident"), [*((name, True) for name in registry.names("likelihoods")), ("gaussian", False)]
)
def test_a_step_of_every_likelihood(likelihood: str, resident: bool) -> None:
    compute_steps(resident, likelihood__name=likelihood, data__binarize="dynamic")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_step_with_every_control(control: str) -> None:
    compute_steps(**CONTROLS[control])


@pytest.mark.parametrize(
    "overrides",
    [
        {"objective__name": "capacity", "prior__name": "vamp"},
        {"objective__name": "capacity", "objective__warmup_steps": 0, "likelihood__name": "optimal_gaussian"},
        {"objective__name": "dip", "training__ema": 0.9, "training__augment": "flip+crop", "training__clip": 1.0},
    ],
)
def test_a_step_on_a_device_without_float64(overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a device is MPS, of which this build of torch has not even fake tensors."""
    with pytest.raises(AssertionError, match="float64"):
        monkeypatch.setattr(device, "WITHOUT_FLOAT64", {DEVICE.type})
        with FakeTensorMode(), OnDeviceOnly():
            torch.zeros(2, device=DEVICE).double()
    compute_steps(**overrides)


@pytest.mark.parametrize(("condition", "resident"), [("label", True), ("attributes", False)])
def test_a_step_of_a_conditional_model(condition: str, resident: bool) -> None:
    compute_steps(resident, network__condition=condition)


@pytest.mark.parametrize(
    ("posterior", "prior", "condition"),
    [*((*pair, "none") for pair in CROSSED_PAIRS), ("diagonal", "normal", "label"), ("diagonal", "vamp", "label")],
)
def test_a_model_on_the_device_encodes_images_of_the_cpu_and_samples(
    posterior: str, prior: str, condition: str
) -> None:
    overrides = {"posterior__name": posterior, "prior__name": prior, "network__condition": condition}
    data = make_labelled(5)
    vae = make_state(make_recipe(**overrides), data).vae
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        to_fake(vae)
        q = vae.encode(data)
        assert q.mean.device == q.log_var.device == CPU
        on_device, density, noise = q.to(DEVICE), vae.density(), FakeNoise(0, DEVICE)
        given = torch.zeros(5, 3, device=DEVICE) if condition == "label" else None
        results = [
            density.kl(on_device, on_device.draw(noise)),
            vae.decode_batch(density.sample(5, noise), given).mean,
            vae.decode_batch(on_device.draw(noise, 2).z, given).mean,
        ]
        assert all(result.device.type == DEVICE.type for result in results)


SAMPLERS = [
    (posterior, prior, kind)
    for posterior, prior in CROSSED_PAIRS
    for kind in ("prior", "autoregressive")
    if registry.load("samplers", kind).Sampler.needs <= registry.load("posteriors", posterior).Posterior.provides
]
"""Samplers that use tensors of the model, with every model that they fit."""


@pytest.mark.parametrize(("posterior", "prior", "kind"), SAMPLERS)
def test_samplers_of_a_model_on_the_device_return_codes_of_the_cpu(posterior: str, prior: str, kind: str) -> None:
    vae = make_state(make_recipe(posterior__name=posterior, prior__name=prior), make_labelled(5)).vae
    maker, generator = registry.load("samplers", kind).Sampler, torch.Generator().manual_seed(0)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        to_fake(vae)
        sampler = maker(vae.spec, vae.density(), device=DEVICE)
        z = sampler.sample(5, generator)
        assert (z.device, sampler.log_prob(z).device) == (CPU, CPU)


def test_the_check_finds_what_it_is_for() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), OnDeviceOnly():
        x = torch.zeros(3, device=DEVICE)
        strays: list[Callable[[], object]] = [
            lambda: x.cpu(),
            lambda: x.cumsum(0),
            lambda: x.sum().item(),
            lambda: bool(x.sum() > 0),
            lambda: x + torch.ones(()),
            lambda: x[[0, 2]],
        ]
        for stray in strays:
            with pytest.raises((AssertionError, RuntimeError)):
                stray()
