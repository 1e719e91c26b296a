"""``vaelab.train``: what it leaves when it fails, and what it makes again."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typed import train_small
from wording import Wording

import vaelab
from vaelab.run import MACHINE, MODEL, REPORT, OtherRecipe, Run
from vaelab.system.errors import RecipeError, UsageError
from vaelab.training.checks import Diverged


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"network.name": "conv", "network.channels": [8], "network.strides": [2, 2]}, RecipeError),
        (
            {"network.name": "conv", "network.channels": [8] * 5, "network.strides": [2] * 5, "network.kernel": 4},
            RecipeError,
        ),
        ({"objective.name": "tc", "posterior.name": "full_covariance"}, RecipeError),
        ({"network.condition": "attributes"}, ValueError),
    ],
)
def test_a_recipe_that_cannot_be_built_leaves_no_files(
    tmp_path: Path, overrides: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        vaelab.train("digits", {"training.threads": 1, **overrides}, run=tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_found_leave_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        vaelab.train("mnist", run=tmp_path / "new", data=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    with pytest.raises(OSError) as caught:
        train_small(tmp_path / "new")
    wording(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_says_what_is_kept(tmp_path: Path, wording: Wording) -> None:
    with pytest.raises(Diverged) as caught:
        train_small(tmp_path / "run", {"training.learning_rate": 1e30})
    wording(caught.value)
    assert str(caught.value) in (tmp_path / "run" / "run.log").read_text()
    assert not Run(tmp_path / "run").is_trained


def test_another_recipe_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(OtherRecipe) as caught:
        train_small(run.path, {"objective.beta": 2})
    assert caught.value.subject == run.path
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_events_of_a_run_that_is_new_done_or_lacks_its_report(tmp_path: Path) -> None:
    events: list[vaelab.Event] = []
    run = train_small(tmp_path / "run", watch=events.append)
    assert isinstance(events[0], vaelab.Started)
    assert (events[0].first_step, events[0].num_steps) == (0, 60)
    assert [event.already for event in events if isinstance(event, vaelab.Finished)] == [False]
    model = run.model_path.stat().st_mtime_ns
    for missing, already in ((None, True), (REPORT, False), (MACHINE, False)):
        if missing:
            (run.path / missing).unlink()
        events.clear()
        train_small(run.path, watch=events.append)
        assert [event.already for event in events if isinstance(event, vaelab.Finished)] == [already]
        assert not any(isinstance(event, vaelab.Started) for event in events)
        assert run.is_finished
    assert run.model_path.stat().st_mtime_ns == model


def test_a_damaged_model_is_made_again_from_the_last_checkpoint(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    model = run.model_path.read_bytes()
    run.model_path.write_bytes(model[:-100])
    notes: list[str] = []
    train_small(run.path, watch=lambda event: notes.append(event.text) if isinstance(event, vaelab.Note) else None)
    assert run.model_path.read_bytes() == model
    assert any(f"{MODEL}.damaged" in note for note in notes)
    assert (run.path / f"{MODEL}.damaged").is_file()


@pytest.mark.slow
def test_a_figure_that_was_removed_is_drawn_again(tmp_path: Path) -> None:
    overrides = {"training.figures": ["losses", "samples"]}
    run = train_small(tmp_path / "run", overrides)
    assert run.machine["figures"] == ["losses", "samples"]
    run.figures["losses"].unlink()
    train_small(run.path, overrides)
    assert run.figures.keys() == {"losses", "samples"}


def test_an_unknown_device_is_refused_even_if_the_run_is_finished(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    with pytest.raises(UsageError) as caught:
        train_small(run.path, device="abacus")
    assert (caught.value.value, "cpu" in caught.value.choices) == ("abacus", True)


def test_other_images_are_refused_for_a_finished_run(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for name, images in (("own", pixels), ("other", 255 - pixels)):
        np.savez(tmp_path / f"{name}.npz", images=images)
    overrides = {"data.name": "arrays", "data.valid": 8}
    run = train_small(tmp_path / "run", overrides, name="folder", data=tmp_path / "own.npz")
    with pytest.raises(ValueError):
        train_small(run.path, overrides, name="folder", data=tmp_path / "other.npz")
    train_small(run.path, overrides, name="folder", data=tmp_path / "own.npz")
