"""Training on images from memory: the run keeps a copy, and everything works on it later."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import random_pixels
from typed import TINY, train_small

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.system.errors import InputError, RecipeError, UsageError

PIXELS = random_pixels(60, 10, 9)
LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images from memory."""
    path = tmp_path_factory.mktemp("runs") / "memory"
    return train_small(path, name="folder", images=PIXELS / 255, labels=LABELS).path


def test_a_run_works_wherever_it_is(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "moved")
    run = vaelab.Run(tmp_path / "moved")
    images = load_run_images(run, None)
    assert (len(images.train), len(images.valid), images.valid_split) == (54, 6, "6 images set aside from train")
    assert (run.recipe.data["valid"], run.recipe.data["range"]) == (6, [0.0, 1.0])
    assert vaelab.evaluate(run, metrics=["elbo"]).results["elbo"]
    assert vaelab.draw_figures(run, names=["reconstructions"])
    ((payload, _),) = vaelab.explore([run]).runs
    assert len(payload.pixels) == 54


def test_the_same_images_resume_and_others_are_refused(
    finished: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "model.safetensors").unlink()
    wrong: list[dict[str, Any]] = [
        {"images": 1 - PIXELS / 255, "labels": LABELS},
        {"images": PIXELS / 255, "labels": LABELS[::-1]},
    ]
    for arguments in wrong:
        with pytest.raises(InputError) as caught:
            train_small(run, name="folder", **arguments)
        wording(caught.value)
    train_small(run, name="folder", images=PIXELS / 255, labels=LABELS)
    assert (run / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_a_lost_copy_is_made_again(tmp_path: Path, damage: str, wording: Callable[[object], None]) -> None:
    run = tmp_path / "run"
    train_small(run, name="folder", images=PIXELS / 255, labels=LABELS)
    if damage == "removed":
        shutil.rmtree(run / "images")
    else:
        file = run / "images" / "train" / "pixels.npy"
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises((InputError, FileNotFoundError)) as caught:
        load_run_images(vaelab.Run(run), None)
    wording(caught.value)
    with pytest.raises(InputError) as refused:
        train_small(run, name="folder", images=1 - PIXELS / 255, labels=LABELS)
    wording(refused.value)
    train_small(run, name="folder", images=PIXELS / 255, labels=LABELS)
    assert len(load_run_images(vaelab.Run(run), None).train) == 54


def test_held_out_images_may_be_given(tmp_path: Path) -> None:
    held_out = random_pixels(20, 10, 9)
    labels = np.array(["b", "a", "c"])[LABELS]
    valid = (held_out, ["c"] * 20)
    run = train_small(tmp_path / "run", name="folder", images=PIXELS, labels=labels, valid=valid)
    images = load_run_images(run, None)
    assert np.array_equal(images.train.pixels[:][..., 0], PIXELS)
    assert np.array_equal(images.valid.pixels[:][..., 0], held_out)
    assert (images.valid.label_names, images.valid.labels[0]) == (("a", "b", "c"), 2)  # type: ignore[index]
    assert (run.recipe.data["valid"], images.valid_split) == (0, "valid")


def test_a_number_of_images_is_set_aside(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", name="folder", images=PIXELS, valid=7)
    assert len(load_run_images(run, None).valid) == 7


def test_options_are_kept_as_given(tmp_path: Path) -> None:
    pictures = [Image.fromarray(image).resize((20 + number % 2, 20)) for number, image in enumerate(PIXELS)]
    for _ in range(2):  # and the second call finds the same recipe
        run = train_small(tmp_path / "run", {"data.size": 12}, name="folder", images=pictures)
    assert (run.recipe.data["size"], vaelab.load(run).spec.image_shape) == (12, (1, 12, 12))
    assert "auto" not in map(str, run.recipe.data.values())


def test_attributes_condition_a_model(tmp_path: Path) -> None:
    attributes = {"dark": np.arange(60) < 30, "red": np.arange(60) % 2}
    overrides = {"network.condition": "attributes"}
    run = train_small(tmp_path / "run", overrides, name="folder", images=PIXELS, attributes=attributes)
    assert vaelab.load(run).spec.condition_names == ("dark", "red")


def test_what_was_decided_is_told(tmp_path: Path) -> None:
    events: list[object] = []
    train_small(tmp_path / "run", name="folder", images=PIXELS / 255, watch=events.append)
    told = [event.text for event in events if isinstance(event, vaelab.Note)]
    assert sum("read as NHW" in text or "(data.range)" in text or "held out" in text for text in told) == 3


def test_fit_needs_nothing_but_images() -> None:
    run = vaelab.fit(PIXELS, set=TINY)
    path = run.path
    assert vaelab.load(run).spec.image_shape == (1, 10, 9)
    del run
    assert not path.exists()


def test_fit_takes_a_directory(tmp_path: Path) -> None:
    assert vaelab.fit(PIXELS, LABELS, TINY, run=tmp_path / "run").path == tmp_path / "run"
    assert vaelab.Run(tmp_path / "run").is_finished


WRONG: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "a path": (TypeError, {"images": "here"}),
    "data too": (UsageError, {"images": PIXELS, "data": "here"}),
    "labels alone": (UsageError, {"labels": LABELS}),
    "another data set": (UsageError, {"images": PIXELS, "set": {"data.name": "mnist"}}),
    "two counts": (UsageError, {"images": PIXELS, "valid": 3, "set": {"data.valid": 3}}),
    "too many set aside": (RecipeError, {"images": PIXELS, "valid": 60}),
    "another size": (InputError, {"images": PIXELS, "valid": random_pixels(5, 10, 10)}),
    "NaN": (InputError, {"images": np.full((20, 9, 9), np.nan)}),
    "an unknown class": (InputError, {"images": PIXELS, "labels": ["a"] * 60, "valid": (PIXELS, ["b"] * 60)}),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_line(case: str, tmp_path: Path, wording: Callable[[object], None]) -> None:
    kind, arguments = WRONG[case]
    with pytest.raises(kind) as caught:
        vaelab.train("folder", run=tmp_path / "run", **arguments)
    wording(caught.value)
    assert not (tmp_path / "run").exists()
