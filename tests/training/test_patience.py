"""Early stopping: the best weights are kept, also if the training is killed and resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import CPU, make_images, make_recipe, make_settings, make_state
from typed import train_small
from wording import Wording

import vaelab
from vaelab.data.loader import Batches
from vaelab.run import Run
from vaelab.system.errors import InputError, RecipeError
from vaelab.system.files import load_tensors, save_tensors
from vaelab.training import loop
from vaelab.training.loop import ProgressRecord
from vaelab.training.state import State


def run(state: State, **overrides: Any) -> list[ProgressRecord]:
    """Train on random images, of which only the mean can be learned."""
    made, data = make_recipe(**overrides), make_images()
    settings = replace(make_settings(made), validate_every=5)
    return list(loop.train(state, Batches(data, 8, 0, CPU), settings, valid=make_images(20, seed=1)))


MEMORISING = {
    "training__patience": 3, "training__steps": 400, "training__learning_rate": 0.02, "network__name": "mlp",
    "network__hidden": [64], "network__latent_dim": 8, "training__checkpoint_every": 15,
}  # fmt: skip


def make(**overrides: Any) -> State:
    return make_state(make_recipe(**MEMORISING, **overrides), make_images())


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best_weights() -> None:
    state = make()
    records = run(state, **MEMORISING)
    losses = {record.step: record.validation.terms["loss"] for record in records if record.validation}
    best = min(losses, key=lambda step: losses[step])
    assert records[-1].finished_early
    assert records[-1].checkpoint_due
    assert records[-1].step == state.step == best + 3 * 5 < 400
    assert state.best is not None
    assert (state.best.step, state.best.loss) == (best, losses[best])
    other = make()
    longer = run(other, **{**MEMORISING, "training__steps": best, "training__patience": 0})
    state.keep_final_weights()
    for name, tensor in other.vae.state_dict().items():
        assert torch.equal(state.vae.state_dict()[name], tensor)
    assert longer[-1].step == best


def test_the_loss_after_the_warm_up_is_compared_while_an_objective_warms_up() -> None:
    settings = {
        **MEMORISING, "objective__name": "beta", "objective__beta": 2.0, "objective__warmup_steps": 1000,
        "training__steps": 100,
    }  # fmt: skip
    state = make_state(make_recipe(**settings), make_images())
    validated = [(record.step, record.validation) for record in run(state, **settings) if record.validation]
    losses = {step: found.terms["reconstruction"] + 2 * found.terms["kl"] for step, found in validated}
    best = min(losses, key=lambda step: losses[step])
    assert state.best is not None
    assert (state.best.step, state.best.loss) == (best, pytest.approx(losses[best]))
    assert best < 85
    assert state.step == 100, "the patience is not used up"


@pytest.mark.parametrize("is_at_the_end", [False, True])
def test_a_resumed_training_stops_at_the_same_step_with_the_same_weights(is_at_the_end: bool, tmp_path: Path) -> None:
    """``is_at_the_end``: it was killed after its last checkpoint, before anything else was written."""
    whole = make(training__ema=0.9)
    run(whole, **MEMORISING, training__ema=0.9)
    last = whole.step if is_at_the_end else 15
    first, second = make(training__ema=0.9), make(training__ema=0.9)
    made, data = make_recipe(**MEMORISING, training__ema=0.9), make_images()
    settings = replace(make_settings(made), validate_every=5)
    for record in loop.train(first, Batches(data, 8, 0, CPU), settings, valid=make_images(20, seed=1)):
        if record.checkpoint_due and record.step == last:
            save_tensors(tmp_path / "c.safetensors", first.tensors(), {"step": record.step})
            break
    tensors, _ = load_tensors(tmp_path / "c.safetensors")
    assert second.find_misfit(tensors) is None
    second.restore(last, tensors)
    records = run(second, **MEMORISING, training__ema=0.9)
    assert second.step == whole.step
    assert records[-1].finished_early
    expected = whole.tensors()
    assert second.tensors().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.tensors().items())


def test_a_run_says_why_it_ended_and_what_it_kept(tmp_path: Path) -> None:
    told: list[Any] = []
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    settings = {
        "training.learning_rate": 0.02, "training.steps": 400, "training.patience": 2, "training.validate_every": 5,
        "data.name": "arrays", "data.valid": 20, "network.latent_dim": 8,
    }  # fmt: skip
    source: dict[str, Any] = {"name": "folder", "data": tmp_path / "images.npz"}
    trained = train_small(tmp_path / "run", settings, watch=told.append, **source)
    machine, validation = trained.machine, trained.validation
    best = int(validation["step"][np.argmin(validation["loss"])])
    assert (machine["best_step"], machine["ended_at"], machine["ended_by"]) == (best, best + 10, "patience")
    assert trained.measured()["held_out_loss"] == validation["loss"].min() < validation["loss"][-1]
    saved, _ = load_tensors(trained.model_path)
    kept, _ = load_tensors(trained.checkpoints.paths[0])
    names = [name for name in kept if name.startswith("best.weights.")]
    assert len(names) == len(vaelab.load(trained).state_dict())
    assert all(torch.equal(saved[name.removeprefix("best.weights.")], kept[name]) for name in names)
    notes = [event.text for event in told if isinstance(event, vaelab.Note)]
    (stopped, chosen) = (text for text in notes if text.startswith(("stopped", "the weights")))
    assert str(best) in chosen
    assert str(best + 10) in stopped
    with pytest.raises(InputError) as caught:
        train_small(trained.path, {**settings, "training.steps": 800}, extend=True, **source)
    assert caught.value.subject == "training.patience"
    assert Run(trained.path).is_finished


@pytest.mark.parametrize(
    ("overrides", "subject"),
    [
        ({"training.patience": 3}, "training.patience"),
        ({"training.patience": 3, "data.valid": 100, "training.validate_every": 0}, "training.patience"),
        ({"training.weight_decay": 0.1}, "training.weight_decay"),
    ],
)
def test_settings_that_contradict_each_other(
    overrides: dict[str, Any], subject: str, tmp_path: Path, wording: Wording
) -> None:
    for work in (vaelab.plan, vaelab.train):
        with pytest.raises(RecipeError) as caught:
            work("digits", overrides, run=tmp_path / "run")
        assert caught.value.subject == subject
    wording(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["", "test"])
def test_pictures_set_aside_by_vaelab_may_choose_the_weights(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder ``test`` may not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    for folder in ("train", place) if place else ("",):
        (pictures / folder).mkdir(parents=True, exist_ok=True)
        for i in range(20):
            Image.fromarray(np.full((8, 8), 10 * i + len(folder), np.uint8)).save(pictures / folder / f"{i}.png")
    if place:
        with pytest.raises(RecipeError):
            vaelab.plan("folder", {"training.patience": 3}, data=pictures)
    else:
        assert vaelab.plan("folder", {"training.patience": 3}, data=pictures)["state"] == "new"
