"""Steps as CUDA launches them (everything in its place, captured once), against steps as they are written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import CPU, NETWORKS, make_images, make_recipe, make_state

from vaelab.data.images import Images, as_tensor
from vaelab.data.loader import Batches
from vaelab.recipe import Recipe
from vaelab.system import device as runtime
from vaelab.system import registry as catalog
from vaelab.system.cuda_graph import CannotCapture
from vaelab.system.device import Noise
from vaelab.training.schedules import half_cosine
from vaelab.training.step import Steps

Graph = Callable[[Callable[[], None], Noise], Callable[[], None]]


def uncaptured(work: Callable[[], None], _noise: Noise) -> Callable[[], None]:
    return work


def run_steps(
    made: Recipe, data: Images, num_steps: int, make_graph: Graph | None, *, resident: bool = False, **options: Any
) -> tuple[np.ndarray, dict[str, torch.Tensor], Steps]:
    """Values of ``num_steps`` steps in ticks of 5, the state after them, and what carried them out."""
    state = make_state(made, data)
    settings = made.training
    batches = Batches(data, settings.batch_size, settings.seed, CPU, **options)
    if resident:
        batches.resident = as_tensor(data.pixels)
    state.vae.noise = noise = Noise(settings.seed, CPU)
    falls = (lambda step: half_cosine(step, num_steps)) if settings.decay == "cosine" else None
    steps = Steps(state, batches, noise, made.data["binarize"], "fp32", make_graph, falls)
    rows = []
    while state.step < num_steps:
        rows.append(steps.run(state.step, min(state.step + 5, num_steps), lambda: False).clone())
    return torch.cat(rows).numpy(), state.tensors(), steps


def assert_same(made: Recipe, data: Images, make_graph: Graph, **options: Any) -> None:
    expected, wanted, _ = run_steps(made, data, 17, None)
    found, tensors, _ = run_steps(made, data, 17, make_graph, **options)
    np.testing.assert_array_equal(found, expected)
    assert tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensors[name], tensor), name
        assert tensors[name].stride() == tensor.stride(), name


@pytest.mark.parametrize("network", catalog.names("networks"))
@pytest.mark.parametrize("objective", catalog.names("objectives"))
@pytest.mark.parametrize("resident", [True, False])
def test_launched_steps_are_the_written_ones_bit_for_bit(network: str, objective: str, resident: bool):
    made = make_recipe(network__name=network, objective__name=objective)
    for key, value in NETWORKS[network].items():
        made.network[key] = value
    assert_same(made, make_images(), uncaptured, resident=resident)  # 7 batches an epoch, the last of 2 images


def test_launched_steps_draw_binary_images_anew_at_every_presentation():
    made = make_recipe(data__binarize="dynamic", likelihood__name="bernoulli")
    assert_same(made, make_images(), uncaptured, resident=True)
    assert_same(made, make_images(), uncaptured)


def test_launched_steps_in_windows():
    made = make_recipe()
    expected, _, _ = run_steps(made, make_images(), 17, None, window=20)
    for resident in (True, False):
        found, _, _ = run_steps(made, make_images(), 17, uncaptured, resident=resident, window=20)
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected, run_steps(made, make_images(), 17, None)[0])


def test_launched_steps_read_a_falling_rate_from_where_a_graph_would():
    made, data = make_recipe(training__decay="cosine", training__learning_rate=0.01), make_images()
    expected, _, _ = run_steps(made, data, 17, None)
    found, _, steps = run_steps(made, data, 17, uncaptured, resident=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the rate is a float32 there
    (group,) = steps._state.optimizer.param_groups
    assert float(group["lr"]) == pytest.approx(0.01 * half_cosine(16, 17))
    constant, _, _ = run_steps(make_recipe(training__learning_rate=0.01), data, 17, None)
    assert np.abs(constant[-1] - expected[-1]).max() > 1e-3


def test_each_size_of_batch_is_captured_once():
    captured = []

    def counted(work: Callable[[], None], _noise: Noise) -> Callable[[], None]:
        captured.append(work)
        return work

    run_steps(make_recipe(), make_images(), 20, counted, resident=True)
    assert len(captured) == 2


def test_what_cannot_be_captured_runs_as_it_is_written_and_says_so():
    def refuse(_work: Callable[[], None], _noise: Noise) -> Callable[[], None]:
        raise CannotCapture("a value was read back")

    assert_same(make_recipe(), make_images(), refuse, resident=True)
    _, _, steps = run_steps(make_recipe(), make_images(), 3, refuse, resident=True)
    assert len(steps.notes) == 1
    assert "a value was read back" in steps.notes[0]
    assert "slower" in steps.notes[0]


def test_launched_steps_go_on_bit_for_bit():
    made, data = make_recipe(), make_images()
    expected, wanted, _ = run_steps(made, data, 17, uncaptured, resident=True)
    _, saved, _ = run_steps(made, data, 9, uncaptured, resident=True)
    state = make_state(made, data)
    state.restore(9, {name: tensor.clone() for name, tensor in saved.items()})
    batches = Batches(data, 8, 0, CPU)
    batches.resident = as_tensor(data.pixels)
    state.vae.noise = noise = Noise(0, CPU)
    found = Steps(state, batches, noise, "none", "fp32", uncaptured).run(9, 17, lambda: False)
    np.testing.assert_array_equal(found.numpy(), expected[9:])
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in state.tensors().items())


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
def test_auto_precision_is_bf16_only_where_the_processor_has_it(
    flags: str, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtime, "_processor_flags", lambda: set(flags.split()))
    assert runtime.resolve_precision("auto", CPU) == expected
    assert runtime.resolve_precision("auto", torch.device("cuda")) == "tf32"
    for precision in ("fp32", "tf32", "bf16"):
        assert runtime.resolve_precision(precision, CPU) == precision  # type: ignore[arg-type]


@pytest.mark.parametrize("network", catalog.names("networks"))
def test_bfloat16_steps_follow_float32_ones(network: str):
    made = make_recipe(network__name=network, training__learning_rate=0.003)
    for key, value in NETWORKS[network].items():
        made.network[key] = value
    data = make_images()
    losses = {}
    for precision in ("fp32", "bf16"):
        state = make_state(made, data)
        state.vae.noise = noise = Noise(0, CPU)
        values = Steps(state, Batches(data, 8, 0, CPU), noise, "none", precision).run(0, 40, lambda: False)  # type: ignore[arg-type]
        losses[precision] = values[:, 0].numpy()
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
