"""The sampler of a run is fitted once and stored with the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typed import Typed, one_line, train_small
from wording import Wording

import vaelab
from vaelab.run import SAMPLER, Run
from vaelab.system.files import DamagedFile

FITTED = {"sampler.name": "gmm", "sampler.components": 2, "training.figures": ["samples"]}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose sampler is a mixture."""
    return train_small(tmp_path_factory.mktemp("sampler") / "run", FITTED)


@pytest.fixture
def without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training images are gone."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr("vaelab.api.sample.load_run_images", fail)


def draw(run: Run | Path | str, **options: Any) -> np.ndarray:
    return np.asarray(vaelab.sample(run, count=4, seed=3, **options).pixels)


@pytest.mark.usefixtures("without_images")
def test_samples_need_no_training_images(fitted: Run) -> None:
    told: list[str] = []
    draw(fitted, tell=told.append)
    assert told == ["sampler: gmm (components = 2)"]
    for options in ({"set": {"sampler.components": 3}}, {"sampler": "two_stage"}):
        with pytest.raises(FileNotFoundError):
            draw(fitted, **options)


def test_a_stored_sampler_equals_one_fitted_again(fitted: Run, tmp_path: Path) -> None:
    stored = draw(fitted)
    (tmp_path / SAMPLER).write_bytes((fitted.path / SAMPLER).read_bytes())
    (fitted.path / SAMPLER).unlink()
    again = draw(fitted)
    (tmp_path / SAMPLER).rename(fitted.path / SAMPLER)
    assert np.array_equal(stored, again)
    assert not np.array_equal(stored, draw(fitted, sampler="prior"))


def test_the_sampler_of_other_weights_is_not_used(fitted: Run, tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", FITTED)
    first = (run.path / SAMPLER).read_bytes()
    assert first == (fitted.path / SAMPLER).read_bytes()
    train_small(run.path, {**FITTED, "training.steps": 70}, extend=True)
    kept = Run(run.path / "earlier" / "step-000000060")
    assert (kept.path / SAMPLER).read_bytes() == first
    longer = draw(run)
    (run.path / SAMPLER).write_bytes(first)
    assert np.array_equal(draw(run), longer)


@pytest.mark.parametrize("name", ["prior", "aggregate"])
def test_samplers_without_parameters_and_codes_of_images_are_not_stored(name: str, tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", {"sampler.name": name})
    assert not (run.path / SAMPLER).exists()


def test_a_damaged_sampler_is_named(fitted: Run, cli: Typed, wording: Wording, tmp_path: Path) -> None:
    path = fitted.path / SAMPLER
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    try:
        code, _, err = cli("sample", fitted.path, "--out", tmp_path / "samples.png")
        assert code == 1
        wording(one_line(err))
        assert [error.path for error in fitted.find_damage()] == [path]
        with pytest.raises(DamagedFile):
            vaelab.explore(fitted, points=20)
        assert len(draw(fitted, sampler="prior")) == 4
    finally:
        path.write_bytes(whole)


@pytest.mark.usefixtures("hub", "without_images")
def test_a_pushed_model_has_its_sampler(fitted: Run) -> None:
    pushed = vaelab.push(fitted, "me/mixture", onnx=False)
    assert SAMPLER in pushed.sizes
    assert np.array_equal(draw("hub:me/mixture"), draw(fitted))
