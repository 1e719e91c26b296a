"""Values for "auto": those of the run if it was begun, else those that suit the images and the machine."""

from pathlib import Path

import pytest
import torch
from small import make_images, make_recipe
from typed import train_small

from vaelab.api.resolve import compare_machines, resolve
from vaelab.api.run_images import RunImages
from vaelab.data.loader import choose_shuffle_buffer
from vaelab.run import Run
from vaelab.system.device import resolve_precision
from vaelab.system.machine import Precision, default_threads
from vaelab.training.settings import Settings

CPU = torch.device("cpu")
IMAGES = make_images()


def begun(folder: Path, *, precision: str = "fp32", threads: int = 1, **overrides: object) -> Run:
    """A run on the disk that has just begun."""
    run = Run.at(folder)
    run.begin(make_recipe(**overrides), {"precision": precision, "threads": threads})
    return run


def settings_of(run: Run, **overrides: object) -> Settings:
    return resolve(make_recipe(**overrides), RunImages(IMAGES, IMAGES, "test", "none", {}), run, CPU)[1]


@pytest.mark.parametrize("before", ["fp32", "bf16", "tf32"])
def test_auto_precision_stays_that_of_the_run(tmp_path: Path, before: Precision):
    assert settings_of(begun(tmp_path / "run", precision=before)).precision == before
    assert settings_of(Run.at(tmp_path / "new")).precision == resolve_precision("auto", CPU)
    assert settings_of(Run.at(tmp_path / "new"), training__precision="bf16").precision == "bf16"


def test_auto_threads_stay_those_of_the_run(tmp_path: Path):
    assert settings_of(begun(tmp_path / "run", threads=3), training__threads="auto").threads == 3
    assert settings_of(Run.at(tmp_path / "new"), training__threads="auto").threads == default_threads()
    assert settings_of(begun(tmp_path / "other", threads=3), training__threads=2).threads == 2


def test_auto_shuffle_buffer_stays_that_of_the_run(tmp_path: Path):
    assert settings_of(Run.at(tmp_path / "new")).shuffle_buffer == choose_shuffle_buffer(IMAGES.pixels)
    assert settings_of(Run.at(tmp_path / "new"), training__shuffle_buffer=7).shuffle_buffer == 7
    run = begun(tmp_path / "run", training__shuffle_buffer=30)
    assert settings_of(run).shuffle_buffer == 30
    recipe, _ = resolve(make_recipe(), RunImages(IMAGES, IMAGES, "test", "none", {}), run, CPU)
    assert recipe.training.shuffle_buffer == 30


def test_differences_of_the_machine_are_named():
    now = {
        "device": "cpu", "processor": "p", "threads": 1, "torch": "2", "numpy": "2", "precision": "fp32", "ranks": 1,
    }  # fmt: skip
    assert compare_machines(now, now) == []
    (warning,) = compare_machines({**now, "torch": "1"}, now)
    assert "torch 1 then, 2 now" in warning
    assert len(compare_machines(now, {**now, "threads": 10**6})) == 2


@pytest.mark.slow
def test_a_run_begun_in_float32_is_resumed_in_float32(tmp_path: Path):
    overrides = {"training.steps": 6, "training.checkpoint_every": 3}
    whole = train_small(tmp_path / "whole", {**overrides, "training.precision": "fp32"})
    run = train_small(tmp_path / "run", {**overrides, "training.precision": "fp32"})
    (run.path / "model.safetensors").unlink()
    (run.path / "checkpoints" / "step-000000006.safetensors").unlink()
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('precision = "fp32"', 'precision = "auto"'))
    train_small(run.path, overrides)
    assert run.machine["precision"] == "fp32"
    assert (run.path / "history.csv").read_bytes() == (whole.path / "history.csv").read_bytes()
