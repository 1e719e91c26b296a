"""Runs that are stopped or still being trained: their checkpoint is used, they can be finished, and be made longer."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typed import TINY, TINY_WORDS, Typed, train_small
from wording import Wording

import vaelab
from vaelab.run import HISTORY, Run, RunInUse
from vaelab.system.errors import InputError
from vaelab.system.messages import VaelabWarning
from vaelab.system.signals import Interrupted
from vaelab.training.loop import ProgressRecord

pytestmark = pytest.mark.slow
SAME_BITS = ("history.csv", "validation.csv", "model.safetensors", "recipe.toml")


def press_at(step: int, times: int = 1) -> Callable[[Any], None]:
    """Watch training; press Ctrl-C ``times`` times once it has done ``step`` steps."""

    def watch(event: object) -> None:
        if isinstance(event, ProgressRecord) and step <= event.step and not event.finished_early:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return watch


def stop(path: Path, overrides: dict[str, Any] | None = None) -> Run:
    """Return a run that was stopped before its end."""
    with pytest.raises(Interrupted):
        train_small(path, {"training.steps": 5000, **(overrides or {})}, watch=press_at(2))
    return Run(path)


# -- the newest checkpoint --------------------------------------------------------------------------------------------


def test_a_stopped_run_is_used_at_its_checkpoint_and_says_so(cli: Typed, tmp_path: Path):
    run = stop(tmp_path / "run")
    step, out = run.checkpoints.newest_step, tmp_path / "out.png"
    for words in (
        ("sample", run.path, "--out", out),
        ("reconstruct", run.path, "--out", out, "--overwrite", "--count", 2),
        ("evaluate", run.path, "--metrics", "elbo"),
        ("figures", run.path, "--only", "losses"),
    ):
        code, _, err = cli(*words)
        assert code == 0, err
        assert f"step {step:,} of 5,000; the training is not finished" in err.splitlines()[0]


def test_results_of_an_unfinished_run_are_not_those_of_the_finished_one(tmp_path: Path):
    run = stop(tmp_path / "run")
    before = {path.name for path in run.path.iterdir()}
    with pytest.warns(VaelabWarning):
        early = vaelab.evaluate(run.path, metrics=["elbo", "probe"])
    assert {path.name for path in run.path.iterdir()} - before == {"unfinished"}
    vaelab.train("digits", {**TINY, "training.steps": 5000}, run=run.path, watch=press_at(3, times=2))
    assert run.is_finished
    assert "probe" not in run.evaluation
    assert run.evaluation["elbo"]["elbo"] != early.results["elbo"]["elbo"]
    (where,) = (run.path / "unfinished").iterdir()
    assert json.loads((where / "evaluation.json").read_text())["probe"] == early.results["probe"]


def test_a_checkpoint_and_the_trained_model_decode_alike(tmp_path: Path):
    run = train_small(tmp_path / "run")
    model = vaelab.load(run)
    run.set_aside("model.safetensors")
    with pytest.warns(VaelabWarning):
        again = vaelab.load(run)
    for name, tensor in model.state_dict().items():
        assert bool((again.state_dict()[name] == tensor).all())
    assert run.weights_sha256 != ""


def test_a_half_written_row_of_a_running_training_is_left_out(tmp_path: Path):
    run = stop(tmp_path / "run")
    count = len(run.history["step"])
    with (run.path / HISTORY).open("a") as file:
        file.write("77,1,0.5")
    assert len(run.history["step"]) == count


def test_without_a_checkpoint_there_is_nothing_to_use_or_to_finish(tmp_path: Path, wording: Wording):
    run = stop(tmp_path / "run")
    for path in run.checkpoints.paths:
        path.unlink()
    with pytest.raises(FileNotFoundError):
        vaelab.load(run)
    with pytest.raises(InputError) as caught:
        vaelab.finish(run)
    wording(caught.value)


# -- finishing --------------------------------------------------------------------------------------------------------


def test_ctrl_c_twice_finishes_the_run(tmp_path: Path):
    run = train_small(tmp_path / "run", {"training.steps": 5000}, watch=press_at(5, times=2))
    assert run.is_finished
    step = run.machine["ended_at"]
    assert run.machine["steps"] == 5000
    assert len(run.history["step"]) == step < 5000
    assert run.validation["step"][-1] == step
    assert "finished early; 5,000 were requested" in (run.path / "report.html").read_text()


def test_a_stopped_run_is_finished_where_it_is_and_can_go_on(cli: Typed, tmp_path: Path):
    run = stop(tmp_path / "run", {"training.steps": 150})
    step = run.checkpoints.newest_step
    code, out, err = cli("finish", run.path)
    assert (code, err) == (0, "")
    assert f"finished at step {step} of 150" in out
    assert run.is_finished
    assert len(run.history["step"]) == step
    assert "is done already (finished early" in cli("finish", run.path)[1]
    words = [word.replace("training.steps=60", "training.steps=150") for word in TINY_WORDS]
    code, _, err = cli("train", "digits", *words, "--run", run.path, "--extend")
    assert (code, err) == (0, "")
    whole = train_small(tmp_path / "whole", {"training.steps": 150})
    for name in SAME_BITS:
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert Run(run.path / "earlier" / f"step-{step:09d}").is_finished


def test_a_running_training_is_asked_to_finish(tmp_path: Path):
    def ask(event: object) -> None:
        if isinstance(event, ProgressRecord) and not event.finished_early:
            Run(tmp_path / "run").ask_to_finish()

    run = train_small(tmp_path / "run", {"training.steps": 200_000}, watch=ask)
    assert run.is_finished
    assert not run.is_asked_to_finish()
    with run.locked(), pytest.raises(RunInUse):
        train_small(run.path, {"training.steps": 200_001}, extend=True)


# -- extending --------------------------------------------------------------------------------------------------------


def test_an_extended_run_equals_one_of_that_length(tmp_path: Path):
    whole = train_small(tmp_path / "whole", {"training.steps": 130})
    run = train_small(tmp_path / "run")
    model = (run.path / "model.safetensors").read_bytes()
    train_small(run.path, {"training.steps": 130}, extend=True)
    for name in SAME_BITS:
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    kept = Run(run.path / "earlier" / "step-000000060")
    assert kept.is_finished
    assert (kept.path / "model.safetensors").read_bytes() == model
    assert len(kept.history["step"]) == 60


def test_a_run_is_extended_to_an_automatic_length(tmp_path: Path):
    run = train_small(tmp_path / "run")
    settings = {key: value for key, value in TINY.items() if key != "training.steps"} | {"training.epochs": "long"}
    planned = vaelab.plan("digits", settings, run=run.path, extend=True)
    assert planned["state"] == "extends"
    assert planned["steps"] >= 10_000 > len(run.history["step"])


def test_without_a_name_the_run_of_the_recipe_is_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    short = {key: value for key, value in TINY.items() if key != "training.steps"}
    with pytest.raises(FileNotFoundError):
        vaelab.train("digits", short, steps=70, extend=True)
    plain = vaelab.train("digits", short, steps=60, run=vaelab.plan("digits", short)["run"].path)
    longer = vaelab.train("digits", short, steps=70, extend=True)
    assert longer.path == plain.path
    assert len(longer.history["step"]) == 70


def test_an_interrupted_extension_loses_nothing(tmp_path: Path):
    run = train_small(tmp_path / "run")
    with pytest.raises(Interrupted):
        train_small(run.path, {"training.steps": 500}, extend=True, watch=press_at(61))
    assert Run(run.path / "earlier" / "step-000000060").is_finished
    train_small(run.path, {"training.steps": 500}, watch=press_at(65, times=2))  # also without extend
    assert run.machine["ended_at"] > 60


def test_a_decay_is_noted_and_anything_else_is_refused(tmp_path: Path, wording: Wording):
    decay = {"training.decay": "cosine"}
    run = train_small(tmp_path / "run", decay)
    for changes, extend in (
        ({"training.steps": 130}, False),
        ({"training.steps": 130, "training.learning_rate": 0.01}, True),
        ({"training.steps": 30}, True),
    ):
        with pytest.raises(InputError) as caught:
            train_small(run.path, {**decay, **changes}, extend=extend)
        wording(caught.value)
    assert run.is_finished
    with pytest.warns(VaelabWarning) as warned:
        train_small(run.path, {**decay, "training.steps": 70}, extend=True)
    assert "training.decay=cosine" in str(warned[0].message)
