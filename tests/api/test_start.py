"""Training runs that start from the weights of another run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typed import train_small
from wording import Wording

import vaelab
from vaelab.run import Run
from vaelab.system.errors import InputError

LAST = {"training.steps": 1, "training.learning_rate": 1e-12}
"""A training run that leaves the weights as they are."""


def start(path: Path, source: Path, overrides: dict[str, Any], told: list[Any] | None = None) -> Run:
    watch = (told if told is not None else []).append
    return train_small(path, {"training.start_from": str(source), **overrides}, watch=watch)


def taken(told: list[Any], source: Path) -> str:
    notes = [event.text for event in told if isinstance(event, vaelab.Note)]
    (note,) = (text for text in notes if text.startswith("starts from"))
    return str(note).replace(str(source), "RUN")


def test_all_weights_of_an_equal_model_are_taken(tmp_path: Path, trained: Path, wording: Wording) -> None:
    told: list[Any] = []
    run = start(tmp_path / "run", trained, {**LAST, "training.ema": 0.5}, told)
    source, found = vaelab.load(trained).state_dict(), vaelab.load(run).state_dict()
    for name, tensor in source.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-9)
    wording(taken(told, trained))


def test_weights_of_another_shape_are_drawn_anew(tmp_path: Path, trained: Path, wording: Wording) -> None:
    told: list[Any] = []
    run = start(tmp_path / "run", trained, {**LAST, "network.latent_dim": 3}, told)
    new = train_small(tmp_path / "new", {**LAST, "network.latent_dim": 3})
    source, found, drawn = (vaelab.load(path).state_dict() for path in (trained, run, new))
    same = {name for name in found if source[name].shape == found[name].shape}
    assert 0 < len(same) < len(found)
    for name in found:
        torch.testing.assert_close(found[name], (source if name in same else drawn)[name], rtol=0, atol=1e-9)
    wording(taken(told, trained))


@pytest.mark.parametrize("problem", ["nothing fits", "no run"])
def test_a_start_that_is_impossible_leaves_no_files(
    tmp_path: Path, trained: Path, problem: str, wording: Wording
) -> None:
    other = {"network.name": "residual", "network.channels": [4], "network.strides": [2]}
    source = trained if problem == "nothing fits" else tmp_path / "nowhere"
    overrides = {"training.start_from": str(source), **other}
    for work in (vaelab.plan, vaelab.train):
        with pytest.raises((InputError, FileNotFoundError)) as caught:
            work("digits", overrides, run=tmp_path / "runs" / "run")
        assert list(tmp_path.iterdir()) == []
    if source == trained:
        wording(str(caught.value).replace(str(trained), "RUN"))


def test_a_resumed_training_needs_the_other_run_no_longer(tmp_path: Path, trained: Path) -> None:
    source, often = tmp_path / "source", {"training.checkpoint_every": 25}
    shutil.copytree(trained, source)
    run = start(tmp_path / "run", source, often)
    whole = run.model_path.read_bytes()
    run.write_json("machine.json", {key: value for key, value in run.machine.items() if key != "finished"})
    for path in (run.model_path, run.checkpoints.paths[0]):
        path.unlink()
    shutil.rmtree(source)
    assert start(run.path, source, often).model_path.read_bytes() == whole
