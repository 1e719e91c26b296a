"""Samples of a model on a sheet or in a folder."""

import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from inputs import list_names, read_picture

import vaelab
from vaelab.data.tensors import to_uint8
from vaelab.system.errors import UsageError
from vaelab.system.progress import Task, show_progress
from vaelab.system.seeds import derive_seed


def test_a_folder_and_a_sheet_hold_the_samples_of_the_model(model_file: Path, tmp_path: Path) -> None:
    expected = to_uint8(vaelab.load(model_file).sample(23, derive_seed(5, "sample")))
    folder = vaelab.sample(model_file, count=23, seed=5, out=tmp_path / "many")
    assert list_names(folder) == [f"{i:02d}.png" for i in range(23)]
    found = np.stack([read_picture(folder / f"{i:02d}.png") for i in range(23)])
    np.testing.assert_array_equal(found, expected[..., 0])
    sheet = read_picture(vaelab.sample(model_file, count=23, seed=5, out=tmp_path / "sheet.png"))[::12, ::12]
    np.testing.assert_array_equal(sheet[2:10, 12:20], expected[1, ..., 0])  # enlarged by 12, gaps of 2 pixels


@pytest.mark.slow
def test_pictures_are_written_while_more_are_decoded(model_file: Path, tmp_path: Path) -> None:
    written: dict[int, int] = {}

    def count_files(task: Task) -> None:
        if task.label == "decoding" and not task.is_over:
            written[task.done] = len(list((tmp_path / "many").glob("*.png")))

    with show_progress(count_files):
        vaelab.sample(model_file, count=2500, out=tmp_path / "many")
    assert sorted(written) == [0, 512, 1024, 1536, 2048, 2500]
    assert all(count >= done - 2 * 512 for done, count in written.items())
    assert written[2500] > 0


def test_a_write_error_ends_sampling(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("no space left")

    def fail(_handle: int) -> NoReturn:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError) as caught:
        vaelab.sample(model_file, count=3, out=tmp_path / "many")
    assert caught.value is error


def test_other_endings_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    for verb in (vaelab.sample, vaelab.reconstruct):
        with pytest.raises(UsageError) as error:
            verb(tmp_path / "no model", out=tmp_path / "a.jpeg")
        assert (error.value.subject, error.value.value) == ("out", tmp_path / "a.jpeg")
