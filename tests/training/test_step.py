"""Training steps: captured ones (fixed addresses, one replay per batch size) equal eager ones; precision.

On the CPU nothing is captured: ``CapturedSteps`` runs its work directly and must be bit-identical to ``EagerSteps``.
"""

from typing import Any

import numpy as np
import pytest
import torch
from small import (
    CONTROLS,
    CPU,
    CROSSED_PAIRS,
    OBJECTIVES_AND_NETWORKS,
    make_images,
    make_labelled,
    make_recipe,
    make_state,
    make_steps,
    run_steps,
)

from vaelab.data.images import Images
from vaelab.data.tensors import Batch, as_tensor, to_float
from vaelab.models.vae import VAEOutput
from vaelab.recipe import ResolvedRecipe
from vaelab.system import registry
from vaelab.system.cuda_graph import NUM_WARM_UPS
from vaelab.system.noise import StepNoise
from vaelab.training.objectives import Context
from vaelab.training.schedules import half_cosine
from vaelab.training.state import State
from vaelab.training.step import CapturedSteps, EagerSteps, Steps, as_floats

places = pytest.mark.parametrize("resident", [True, False])
CONDITIONAL = [*((network, "label", True) for network in registry.names("networks")), ("mlp", "attributes", False)]


def run(
    made: ResolvedRecipe,
    data: Images,
    num_steps: int = 17,
    kind: type[Steps] = CapturedSteps,
    *,
    resident: bool = False,
    state: State | None = None,
    **options: Any,
) -> tuple[np.ndarray, Steps]:
    """Terms of the steps up to ``num_steps``, and the object that took them."""
    steps = make_steps(state or make_state(made, data), data, made, kind, **options)
    if resident:
        steps.batches.resident = as_tensor(data.pixels)
    return run_steps(steps, num_steps).numpy(), steps


def assert_same(made: ResolvedRecipe, data: Images, **options: Any) -> None:
    """7 batches an epoch, the last of 2 images; two more of the next."""
    expected, eager = run(made, data, 9, kind=EagerSteps)
    found, captured = run(made, data, 9, **options)
    np.testing.assert_array_equal(found, expected)
    tensors, wanted = captured.state.tensors(), eager.state.tensors()
    assert tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensors[name], tensor), name
        assert tensors[name].stride() == tensor.stride(), name


@pytest.mark.parametrize(("objective", "network"), OBJECTIVES_AND_NETWORKS)
def test_captured_steps_are_the_eager_ones_bit_for_bit(network: str, objective: str):
    assert_same(make_recipe(network__name=network, objective__name=objective), make_images(), resident=True)


@pytest.mark.parametrize("control", [name for name in CONTROLS if name != "warm-up"])  # a float32 on the device
@places
def test_captured_steps_with_any_control(control: str, resident: bool):
    assert_same(make_recipe(**CONTROLS[control]), make_images(), resident=resident)


@pytest.mark.parametrize(("network", "condition", "resident"), CONDITIONAL)
def test_captured_steps_of_a_conditional_model(network: str, condition: str, resident: bool):
    assert_same(make_recipe(network__name=network, network__condition=condition), make_labelled(), resident=resident)


@pytest.mark.parametrize(("posterior", "prior"), CROSSED_PAIRS)
def test_captured_steps_of_any_posterior_and_prior(posterior: str, prior: str):
    assert_same(make_recipe(posterior__name=posterior, prior__name=prior), make_images(), resident=True)


@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
@places
def test_captured_steps_binarise_anew_in_every_epoch(likelihood: str, resident: bool):
    assert_same(make_recipe(data__binarize="dynamic", likelihood__name=likelihood), make_images(), resident=resident)


@places
def test_captured_steps_with_a_shuffle_buffer(resident: bool):
    made, data = make_recipe(), make_images()
    expected, _ = run(made, data, kind=EagerSteps, shuffle_buffer=20)
    found, _ = run(made, data, resident=resident, shuffle_buffer=20)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected, run(made, data, kind=EagerSteps)[0])


def test_captured_steps_read_the_learning_rate_from_the_device():
    made, data = make_recipe(training__decay="cosine", training__learning_rate=0.01, training__steps=17), make_images()
    expected, _ = run(made, data, kind=EagerSteps)
    found, steps = run(made, data, resident=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the rate is a float32 there
    (group,) = steps.state.optimizer.param_groups
    assert float(group["lr"]) == pytest.approx(0.01 * half_cosine(16, 17))
    constant, _ = run(make_recipe(training__learning_rate=0.01), data, kind=EagerSteps)
    assert np.abs(constant[-1] - expected[-1]).max() > 1e-3


def count_passes(state: State, fail_at: int | None = None) -> list[int]:
    """Make the objective count its forward passes in the list; the one with number ``fail_at`` raises an error."""
    passes: list[int] = []

    class Counting(type(state.objective)):  # type: ignore[misc]
        def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, torch.Tensor]:
            passes.append(len(batch.x))
            if len(passes) == fail_at:
                raise RuntimeError("a value was read back")
            return super().forward(out, batch, context)

    state.objective.__class__ = Counting
    return passes


def test_each_batch_size_is_captured_once():
    made, data = make_recipe(), make_images()
    state = make_state(made, data)
    passes = count_passes(state)
    run(made, data, 20, resident=True, state=state)
    assert passes.count(8) == 18 + NUM_WARM_UPS + 1
    assert passes.count(2) == 2 + NUM_WARM_UPS + 1


def test_a_step_that_cannot_be_captured_runs_uncaptured_with_a_note():
    made, data = make_recipe(), make_images()
    expected, _ = run(made, data, kind=EagerSteps)
    state = make_state(made, data)
    passes = count_passes(state, fail_at=NUM_WARM_UPS + 1)  # the pass that is captured
    found, steps = run(made, data, resident=True, state=state)
    np.testing.assert_array_equal(found, expected)
    assert len(steps.notes) == 1
    assert "a value was read back" in steps.notes[0]
    assert len(passes) == 17 + 2 * NUM_WARM_UPS + 1  # nothing was captured for the other batch size


def test_captured_steps_resume_bit_for_bit():
    made, data = make_recipe(), make_images()
    expected, whole = run(made, data, resident=True)
    _, early = run(made, data, 9, resident=True)
    state = make_state(made, data)
    state.restore(9, {name: tensor.clone() for name, tensor in early.state.tensors().items()})
    found, late = run(made, data, resident=True, state=state)
    np.testing.assert_array_equal(found, expected[9:])
    wanted = whole.state.tensors()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in late.state.tensors().items())


@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
def test_a_step_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, likelihood: str):
    data, made = make_images(), make_recipe(likelihood__name=likelihood)
    steps = make_steps(make_state(made, data), data)
    run_steps(steps, 1)

    def wait(*_: object) -> None:
        raise AssertionError("the host waited for the device")

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    run_steps(steps, 5)
    monkeypatch.undo()
    assert steps.state.step == 5


@pytest.mark.parametrize("network", registry.names("networks"))
def test_bfloat16_steps_follow_float32_ones(network: str):
    made, data, losses = make_recipe(network__name=network, training__learning_rate=0.003), make_images(), {}
    for precision in ("fp32", "bf16"):
        terms, steps = run(made, data, 40, EagerSteps, precision=precision)
        losses[precision] = terms[:, 0]
        assert all(parameter.dtype == torch.float32 for parameter in steps.state.vae.parameters())
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=0.01)
    assert not np.array_equal(losses["bf16"], losses["fp32"])


def test_dynamic_binarisation_is_a_function_of_the_step():
    grey, noise, draws = torch.full((64, 16, 16, 1), 64, dtype=torch.uint8), StepNoise(0, CPU), []
    for step in (0, 1, 0):
        noise.seek(step)
        draws.append(as_floats(grey, "dynamic", noise))
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert set(draws[0].unique().tolist()) == {0.0, 1.0}
    assert float(draws[0].mean()) == pytest.approx(64 / 255, abs=0.01)
    extremes = torch.tensor([0, 255], dtype=torch.uint8).repeat(64).reshape(2, 8, 8, 1)
    assert torch.equal(as_floats(extremes, "dynamic", noise), to_float(extremes))
