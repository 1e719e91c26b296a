"""Captured steps (everything in its place, one replay for each batch size) against eager ones; precision and memory.

On the CPU nothing is captured and ``CapturedSteps`` runs its work directly: bit for bit what ``EagerSteps`` does.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import CPU, eager_steps, make_images, make_labelled, make_recipe, make_state

from vaelab.data.images import Images, as_tensor
from vaelab.data.loader import Batches
from vaelab.recipe import Recipe
from vaelab.system import device as runtime
from vaelab.system import registry
from vaelab.system.cuda_graph import CannotCapture
from vaelab.system.seeds import StepNoise
from vaelab.training import step as module
from vaelab.training.schedules import half_cosine
from vaelab.training.step import CapturedSteps, EagerSteps, Steps

places = pytest.mark.parametrize("resident", [True, False])


def run_steps(
    made: Recipe,
    data: Images,
    num_steps: int,
    kind: type[Steps] = CapturedSteps,
    *,
    resident: bool = False,
    first: dict[str, torch.Tensor] | None = None,
    first_step: int = 0,
    **options: Any,
) -> tuple[np.ndarray, dict[str, torch.Tensor], Steps]:
    """Values of the steps up to ``num_steps`` in pieces of 5, the state after them, and what carried them out."""
    state = make_state(made, data)
    if first is not None:
        state.restore(first_step, {name: tensor.clone() for name, tensor in first.items()})
    settings = made.training
    batches = Batches(data, settings.batch_size, settings.seed, CPU, **options)
    if resident:
        batches.resident = as_tensor(data.pixels)
    lr_schedule = (lambda step: half_cosine(step, num_steps)) if settings.decay == "cosine" else None
    noise = StepNoise(settings.seed, CPU)
    steps = kind(state, batches, noise, made.data["binarize"], "fp32", lr_schedule)
    rows = []
    while state.step < num_steps:
        rows.append(steps.run(state.step, min(state.step + 5, num_steps), lambda: False).clone())
    return torch.cat(rows).numpy(), state.tensors(), steps


def assert_same(made: Recipe, data: Images, **options: Any) -> None:
    expected, wanted, _ = run_steps(made, data, 17, EagerSteps)
    found, tensors, _ = run_steps(made, data, 17, **options)
    np.testing.assert_array_equal(found, expected)
    assert tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensors[name], tensor), name
        assert tensors[name].stride() == tensor.stride(), name


@pytest.mark.parametrize("network", registry.names("networks"))
@pytest.mark.parametrize("objective", registry.names("objectives"))
@places
def test_captured_steps_are_the_eager_ones_bit_for_bit(network: str, objective: str, resident: bool):
    made = make_recipe(network__name=network, objective__name=objective)
    assert_same(made, make_images(), resident=resident)  # 7 batches an epoch, the last of 2 images


@pytest.mark.parametrize("network", registry.names("networks"))
@pytest.mark.parametrize("condition", ["none", "label", "attributes"])
@places
def test_captured_steps_of_a_conditional_model(network: str, condition: str, resident: bool):
    assert_same(make_recipe(network__name=network, network__condition=condition), make_labelled(), resident=resident)


@pytest.mark.parametrize("posterior", registry.names("posteriors"))
@pytest.mark.parametrize("prior", registry.names("priors"))
@pytest.mark.parametrize("objective", ["elbo", "iwae", "info"])
@places
def test_captured_steps_of_any_posterior_and_prior(posterior: str, prior: str, objective: str, resident: bool):
    made = make_recipe(posterior__name=posterior, prior__name=prior, objective__name=objective)
    assert_same(made, make_images(), resident=resident)


@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
@places
def test_captured_steps_draw_binary_images_anew_at_every_presentation(likelihood: str, resident: bool):
    assert_same(make_recipe(data__binarize="dynamic", likelihood__name=likelihood), make_images(), resident=resident)


@places
def test_captured_steps_in_windows(resident: bool):
    made = make_recipe()
    expected, _, _ = run_steps(made, make_images(), 17, EagerSteps, shuffle_buffer=20)
    found, _, _ = run_steps(made, make_images(), 17, resident=resident, shuffle_buffer=20)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected, run_steps(made, make_images(), 17, EagerSteps)[0])


def test_captured_steps_read_a_falling_rate_from_where_a_graph_would():
    made, data = make_recipe(training__decay="cosine", training__learning_rate=0.01), make_images()
    expected, _, _ = run_steps(made, data, 17, EagerSteps)
    found, _, steps = run_steps(made, data, 17, resident=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the rate is a float32 there
    (group,) = steps._state.optimizer.param_groups
    assert float(group["lr"]) == pytest.approx(0.01 * half_cosine(16, 17))
    constant, _, _ = run_steps(make_recipe(training__learning_rate=0.01), data, 17, EagerSteps)
    assert np.abs(constant[-1] - expected[-1]).max() > 1e-3


def test_each_size_of_batch_is_captured_once(monkeypatch: pytest.MonkeyPatch):
    captured = []

    def counted(work: Callable[[], None], _generator: None) -> Callable[[], None]:
        captured.append(work)
        return work

    monkeypatch.setattr(module, "capture", counted)
    run_steps(make_recipe(), make_images(), 20, resident=True)
    assert len(captured) == 2


def test_what_cannot_be_captured_runs_as_it_is_written_and_says_so(monkeypatch: pytest.MonkeyPatch):
    def refuse(_work: Callable[[], None], _generator: None) -> Callable[[], None]:
        raise CannotCapture("a value was read back")

    monkeypatch.setattr(module, "capture", refuse)
    assert_same(make_recipe(), make_images(), resident=True)
    _, _, steps = run_steps(make_recipe(), make_images(), 3, resident=True)
    assert len(steps.notes) == 1
    assert "a value was read back" in steps.notes[0]
    assert "slower" in steps.notes[0]


def test_captured_steps_go_on_bit_for_bit():
    made, data = make_recipe(), make_images()
    expected, wanted, _ = run_steps(made, data, 17, resident=True)
    _, saved, _ = run_steps(made, data, 9, resident=True)
    found, tensors, _ = run_steps(made, data, 17, resident=True, first=saved, first_step=9)
    np.testing.assert_array_equal(found, expected[9:])
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in tensors.items())


# -- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f", "fp32"),
        ("fpu avx512f avx512_bf16", "bf16"),
        ("fpu amx_bf16 amx_tile", "bf16"),
        ("", "fp32"),
    ],
)
def test_auto_precision_is_bf16_only_if_the_processor_has_it(flags: str, expected: str):
    assert runtime.resolve_precision("auto", CPU, flags.split()) == expected
    assert runtime.resolve_precision("auto", torch.device("cuda")) == "tf32"
    for precision in ("fp32", "tf32", "bf16"):
        assert runtime.resolve_precision(precision, CPU) == precision  # type: ignore[arg-type]


@pytest.mark.parametrize("network", registry.names("networks"))
def test_bfloat16_steps_follow_float32_ones(network: str):
    made, data, losses = make_recipe(network__name=network, training__learning_rate=0.003), make_images(), {}
    for precision in ("fp32", "bf16"):
        state = make_state(made, data)
        losses[precision] = eager_steps(state, data, precision).run(0, 40, lambda: False)[:, 0].numpy()
        assert all(parameter.dtype == torch.float32 for parameter in state.vae.parameters())
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=0.01)
    assert not np.array_equal(losses["bf16"], losses["fp32"])


# -- memory -----------------------------------------------------------------------------------------------------------


def test_available_memory_is_what_the_container_has_left(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    assert 0 < runtime.available_memory() < 1 << 50
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    monkeypatch.setattr(runtime, "CONTAINER_LIMITS", ((str(limit), str(used)),))
    assert runtime.available_memory() == 600_000
    limit.write_text("max\n")
    assert runtime.available_memory() > 600_000
