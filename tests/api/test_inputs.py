"""Pictures of the user, prepared as the run's recipe says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv
from typed import Typed, train_small

import vaelab
from vaelab.data.datasets import digits


def write_pages(path: Path, count: int) -> None:
    """Write a TIFF with random pages."""
    random = np.random.default_rng(0)
    pages = [Image.fromarray(random.integers(0, 256, (24, 24), dtype=np.uint8)) for _ in range(count)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(("pages", "count"), [("all", 5), ("first", 2)])
def test_pages_are_used_as_in_training(cli: Typed, tmp_path: Path, pages: str, count: int) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train").mkdir()
    for i in range(4):
        write_pages(tmp_path / "own" / "train" / f"{i}.tif", 3)
    overrides = {"data.pages": pages, "data.size": 16, "data.valid": 2, "network.latent_dim": 2, "training.steps": 3}
    train_small(tmp_path / "run", overrides, name="folder", data=tmp_path / "own")
    (tmp_path / "new").mkdir()
    write_pages(tmp_path / "new" / "a.tif", 4)
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(tmp_path / "new" / "b.png")
    assert cli("encode", "run", "new", "--out", "codes.csv")[0] == 0
    assert csv.read_csv("codes.csv").num_rows == count
    assert cli("reconstruct", "run", "new", "--out", "rebuilt/")[0] == 0
    assert len(list((tmp_path / "rebuilt").iterdir())) == count


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose samples are grey digits in the middle of a dark ground."""
    overrides = {"network.latent_dim": 2, "network.hidden": [64], "training.steps": 250}
    overrides["training.learning_rate"] = 0.01
    return train_small(tmp_path_factory.mktemp("grounds") / "digits", overrides).path


def test_an_own_digit_on_paper_is_inverted_and_said_so(
    cli: Typed, digits_run: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    own, pixels = tmp_path / "own", digits.load(None, "test").pixels[:3, ..., 0]
    own.mkdir()
    for name, values in (("black", pixels[0]), ("white", 255 - pixels[1]), ("grey", 150 - pixels[2] // 3)):
        Image.fromarray(values).save(own / f"{name}.png")
    code, _, err = cli("encode", digits_run, "own", "--out", "codes.csv")
    assert code == 0
    wording(err)
    table = csv.read_csv("codes.csv")
    codes = dict(zip(table["image"].to_pylist(), table["mean_1"].to_pylist(), strict=True))
    expected = vaelab.load(digits_run).encode(pixels[:2, ..., None]).mean[:, 0].tolist()
    assert [codes["black.png"], codes["white.png"]] == pytest.approx(expected, abs=1e-4)
    for words in (
        ("reconstruct", digits_run, "own/white.png", "--out", "rebuilt.png"),
        ("score", digits_run, "own/white.png", "--samples", 2, "--out", "scores.csv"),
        ("edit", digits_run, "own/white.png", "--attribute", "3", "--by", "0.5", "--out", "edits.png"),
    ):
        code, _, err = cli(*words)
        assert (code, err.count("\n")) == (0, 1)
        assert "warning: white.png is inverted" in err  # named once


def test_arrays_and_pictures_with_the_right_ground_are_taken_as_they_are(
    cli: Typed, digits_run: Path, tmp_path: Path
) -> None:
    pixels = digits.load(None, "test").pixels[:2]
    np.save(tmp_path / "paper.npy", 255 - pixels)
    Image.fromarray(pixels[0, ..., 0]).save(tmp_path / "dark.png")
    for place in ("paper.npy", "dark.png"):
        code, _, err = cli("encode", digits_run, place, "--out", f"{place}.csv")
        assert (code, err) == (0, "")
    means = csv.read_csv("paper.npy.csv")["mean_1"].to_pylist()
    assert means == pytest.approx(vaelab.load(digits_run).encode(255 - pixels).mean[:, 0].tolist(), abs=1e-4)
