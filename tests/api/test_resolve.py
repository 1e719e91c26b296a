"""Values of "auto" for a run: those of its beginning, otherwise those for the data and the machine."""

from pathlib import Path

import pytest
import torch
from small import make_images, make_recipe
from typed import train_small

from vaelab.api.resolve import precision_of, resolve
from vaelab.api.run_images import RunImages
from vaelab.data.images import Images
from vaelab.run import Run
from vaelab.system.device import Precision, resolve_precision

CPU = torch.device("cpu")


def data_of_run() -> RunImages:
    images: Images = make_images()
    return RunImages(images, images, "test", "none", {})


def begun(folder: Path, *, precision: str = "fp32", **overrides: object) -> Run:
    """A run on the disk that has just begun."""
    run = Run(folder)
    run.begin(make_recipe(**overrides), {"precision": precision, "threads": 1})
    return run


@pytest.mark.parametrize("before", ["fp32", "bf16", "tf32"])
def test_a_resumed_run_keeps_its_precision(tmp_path: Path, before: Precision):
    assert precision_of(make_recipe(), begun(tmp_path / "run", precision=before), CPU) == before
    assert precision_of(make_recipe(), Run(tmp_path / "new"), CPU) == resolve_precision("auto", CPU)
    assert precision_of(make_recipe(training__precision="fp32"), Run(tmp_path / "new"), CPU) == "fp32"


def test_a_resumed_run_keeps_its_shuffle_buffer(tmp_path: Path):
    def shuffle_buffer(run: Run, **overrides: object) -> object:
        return resolve(make_recipe(**overrides), data_of_run(), run).training.shuffle_buffer

    assert shuffle_buffer(Run(tmp_path / "new")) == 0
    assert shuffle_buffer(Run(tmp_path / "new"), training__shuffle_buffer=7) == 7
    assert shuffle_buffer(begun(tmp_path / "windowed", training__shuffle_buffer=30)) == 30
    older = begun(tmp_path / "older")
    recipe = older.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('shuffle_buffer = "auto"\n', ""))
    assert "shuffle_buffer" not in recipe.read_text()
    assert shuffle_buffer(older) == 0


def test_a_run_that_began_in_float32_is_resumed_in_float32(tmp_path: Path):
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
