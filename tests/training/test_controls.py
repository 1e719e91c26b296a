"""Training options: clipped gradients, weight decay, warm-up, averaged weights."""

from pathlib import Path

import pytest
import torch
from small import CONTROLS, CPU, make_images, make_recipe, make_settings, make_state, make_steps, run_steps
from torch import Tensor
from typed import train_small

import vaelab
from vaelab.data.loader import Batches
from vaelab.system.files import load_tensors
from vaelab.system.messages import VaelabWarning
from vaelab.training import loop
from vaelab.training.schedules import half_cosine, lr_schedule
from vaelab.training.state import State
from vaelab.training.validation import validate


def train(num_steps: int = 12, **overrides: object) -> State:
    made, data = make_recipe(**overrides), make_images()
    steps = make_steps(make_state(made, data), data, made)
    run_steps(steps, num_steps)
    return steps.state


def gradient_norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.grad.flatten() for tensor in tensors if tensor.grad is not None]).norm())


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_changes_what_it_should(control: str) -> None:
    options = CONTROLS[control]
    base = {key: value for key, value in options.items() if not key.startswith("training")}
    plain, changed = train(**base), train(**options)
    weights = [torch.cat([p.flatten() for p in state.vae.parameters()]) for state in (plain, changed)]
    assert torch.equal(*weights) == (control in ("ema", "patience"))  # which leave the steps as they are
    assert (changed.tensors().keys() > plain.tensors().keys()) == (control == "ema")


def test_clipping_bounds_the_gradient_of_the_model_and_that_of_a_discriminator() -> None:
    free = train(1, objective__name="factor")
    clipped = train(1, objective__name="factor", training__clip=0.01)
    for name in ("vae", "objective"):
        own, others = (list(getattr(state, name).parameters()) for state in (free, clipped))
        before = gradient_norm(own)
        assert before > 0.02
        assert gradient_norm(others) == pytest.approx(0.01, rel=1e-3)
        for ours, theirs in zip(own, others, strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad * (0.01 / before), rtol=1e-3, atol=1e-8)


def test_adamw_decays_kernels_and_matrices_alone() -> None:
    state = train(training__optimizer="adamw", training__weight_decay=0.5, prior__name="vamp")
    decayed = [p for group in state.optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    names = {name for name, p in state.vae.named_parameters() if any(p is other for other in decayed)}
    assert names == {n for n, p in state.vae.named_parameters() if n.startswith(("encoder", "decoder")) and p.ndim > 1}
    assert sum(len(group["params"]) for group in state.optimizer.param_groups) == len(list(state.vae.parameters()))


def test_automatic_weight_decay_is_that_of_torch_for_adamw() -> None:
    for optimizer, given, resolved in (("adam", "auto", 0), ("adamw", "auto", 0.01), ("adamw", 0.1, 0.1)):
        made = make_recipe(training__optimizer=optimizer, training__weight_decay=given)
        assert made.training.weight_decay == resolved


def test_the_learning_rate_warms_up_and_decays() -> None:
    assert [lr_schedule(step, 10, "none", 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [lr_schedule(step, 10, "none", 0) for step in (0, 9)] == [1, 1]
    for step in range(10):
        expected = half_cosine(step, 10) * min(1, (step + 1) / 4)
        assert lr_schedule(step, 10, "cosine", 4) == pytest.approx(expected)


def test_the_average_is_that_of_the_weights_after_each_step() -> None:
    made, data = make_recipe(training__ema=0.8), make_images()
    state = make_state(made, data)
    steps = make_steps(state, data, made)
    expected = {name: p.detach().double() for name, p in state.vae.named_parameters()}
    for step in range(40):
        run_steps(steps, step + 1)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, p in state.vae.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach().double()
    before = {name: p.detach().clone() for name, p in state.vae.named_parameters()}
    with state.averaged():
        for name, p in state.vae.named_parameters():
            torch.testing.assert_close(p.detach().double(), expected[name], rtol=1e-5, atol=1e-6)
            assert not torch.equal(p, before[name])
    assert all(torch.equal(p, before[name]) for name, p in state.vae.named_parameters())


def test_the_averaged_weights_are_validated() -> None:
    made, data = make_recipe(training__ema=0.9), make_images()
    state, settings, valid = make_state(made, data), make_settings(made), make_images(10, seed=1)
    *_, last = loop.train(state, Batches(data, 8, 0, CPU), settings, valid=valid)
    own = validate(state, valid, settings).terms["loss"]
    state.keep_final_weights()
    assert last.validation is not None
    assert last.validation.terms["loss"] == validate(state, valid, settings).terms["loss"] != own


def test_a_run_saves_the_averaged_weights_and_its_checkpoints_keep_both(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", {"training.ema": 0.9})
    saved, _ = load_tensors(run.model_path)
    kept, _ = load_tensors(run.checkpoints.paths[0])
    names = [name.removeprefix("average.") for name in kept if name.startswith("average.")]
    assert names
    for name in names:
        assert torch.equal(saved[name], kept[f"average.{name}"])
        assert not torch.equal(saved[name], kept[f"vae.{name}"])
    run.model_path.unlink()
    with pytest.warns(VaelabWarning, match="not finished"):
        unfinished = vaelab.load(run)
    assert torch.equal(unfinished.state_dict()[names[0]], saved[names[0]])
