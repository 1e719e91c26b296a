"""Pictures of the user, prepared as the run's recipe says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv
from typed import Typed, train_small


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
