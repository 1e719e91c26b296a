"""``vaelab evaluate --split``: metrics on another split than the one that a run validates on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import Typed, one_line, train_small
from wording import Wording

import vaelab
from vaelab.data.tensors import as_tensor
from vaelab.run import Run
from vaelab.run.layout import evaluation_file
from vaelab.system.errors import UnknownName, UsageError
from vaelab.system.messages import VaelabWarning

METRICS = ["elbo", "reconstruction"]
TEST = evaluation_file("test")


SETTINGS = {"data.name": "folder", "training.steps": 4}


@pytest.fixture(scope="module")
def pixels() -> dict[str, np.ndarray]:
    """Images of three splits, brighter from one to the next."""
    random = np.random.default_rng(0)
    return {
        split: (255 * random.uniform(size=(20, 8, 8)) ** power).astype(np.uint8)
        for split, power in (("train", 2.0), ("valid", 1.0), ("test", 0.5))
    }


@pytest.fixture
def run(pixels: dict[str, np.ndarray], tmp_path: Path) -> Run:
    for split, images in pixels.items():
        for number, image in enumerate(images):
            put_array(tmp_path / "images" / split / f"{number:02}.png", image)
    with pytest.warns(VaelabWarning):  # the folder test is not used in training
        return train_small(tmp_path / "run", SETTINGS, data=tmp_path / "images")


def put_array(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_other_splits_have_their_own_results(run: Run) -> None:
    own = run.evaluation
    test = vaelab.evaluate(run, metrics=METRICS, split="test").results
    train = vaelab.evaluate(run, metrics=METRICS, split="train").results
    valid = vaelab.evaluate(run, metrics=METRICS, split="valid").results
    assert [each["elbo"]["measured_on"]["split"] for each in (train, valid, test)] == ["train", "valid", "test"]
    assert len({each["elbo"]["elbo"] for each in (train, valid, test)}) == 3
    assert run.evaluation["elbo"] == own["elbo"] == valid["elbo"]
    assert run.measured_splits == ["test", "train"]
    assert run.split_evaluation("test") == test


def test_the_numbers_are_those_of_the_images(run: Run, pixels: dict[str, np.ndarray]) -> None:
    found = vaelab.evaluate(run, metrics=["reconstruction"], split="test", store=False).results["reconstruction"]
    x = pixels["test"] / 255
    rebuilt = vaelab.load(run).reconstruct(as_tensor(pixels["test"][..., None]))
    errors = ((rebuilt.numpy()[:, 0] - x) ** 2).mean((1, 2))
    assert found["psnr_mean_over_finite"] == pytest.approx(float((-10 * np.log10(errors)).mean()), abs=1e-3)
    assert run.measured_splits == [], "nothing was stored"


def test_a_published_likelihood_is_compared_with_that_of_the_test_split(run: Run) -> None:
    options = {"metrics": ["nll"], "set": {"nll.samples": 3}}
    valid = vaelab.evaluate(run, **options).results["nll"]["nll"]
    assert run.measured()["nll"] == valid
    test = vaelab.evaluate(run, split="test", **options).results["nll"]["nll"]
    assert run.measured()["nll"] == test != valid
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "The test split" in report
    assert f"{test:,.2f}" in report


def test_the_command_and_its_errors(run: Run, cli: Typed, wording: Wording) -> None:
    code, out, _ = cli("evaluate", run.path, "--split", "test", "--metrics", "elbo")
    assert code == 0
    assert "split test" in out
    code, _, err = cli("evaluate", run.path, "--split", "tset")
    assert code == 2
    wording(one_line(err))
    for name in ("tset", "size"):  # the second is an option of the data set
        with pytest.raises(UnknownName) as caught:
            vaelab.evaluate(run, split=name)
        assert caught.value.value == name


def test_a_folder_without_that_split(tmp_path: Path, pixels: dict[str, np.ndarray]) -> None:
    for number, image in enumerate(pixels["train"]):
        put_array(tmp_path / "images" / f"{number:02}.png", image)
    run = train_small(tmp_path / "run", SETTINGS, data=tmp_path / "images")
    with pytest.raises(UsageError):
        vaelab.evaluate(run, split="valid")
    assert run.measured_splits == []


def test_a_published_data_set_without_that_split(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    with pytest.raises(UnknownName):
        vaelab.evaluate(run, split="valid")
    assert vaelab.evaluate(run, metrics=["elbo"], split="train").results["elbo"]["protocol"]["images"] == 1438


def test_results_of_a_split_belong_to_their_length(run: Run) -> None:
    vaelab.evaluate(run, metrics=["elbo"], split="test")
    (run.path / TEST).write_text("{", encoding="utf-8")
    assert [error.path.name for error in run.find_damage()] == [TEST]
    (run.path / TEST).unlink()
    vaelab.evaluate(run, metrics=["elbo"], split="test")
    known = (run.path / TEST).read_bytes()
    train_small(run.path, SETTINGS | {"training.steps": 6}, data=run.machine["data_dir"], extend=True)
    assert run.measured_splits == []
    assert (run.path / "earlier" / "step-000000004" / TEST).read_bytes() == known
