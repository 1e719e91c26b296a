"""Files and folders named by ``--out``."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from inputs import list_names, make_pixels
from typed import Typed, one_line

from vaelab.api.output_paths import default_out
from vaelab.api.plan import run_directory
from vaelab.system.files import unique_path


@pytest.mark.parametrize("out", ["out.v2", "samples.2026-11-28/", "sub.png/", "plain", "of.v3"])
def test_folders_may_have_dots_in_their_names(cli: Typed, model_file: Path, out: str) -> None:
    if out == "out.v2":
        Path(out).mkdir()
    assert cli("sample", model_file, "-n", 3, "--out", out)[:2] == (0, f"{Path(out)}\n")
    assert list_names(Path(out)) == ["0.png", "1.png", "2.png"]


def test_files_in_a_folder_get_new_names(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    np.save("own.npy", make_pixels(5))
    Path("encode.out").mkdir()
    for out in ("encode.out", "encode.out/", "tables/"):
        assert cli("encode", model_file, "own.npy", "--out", out)[0] == 0
    assert [path.suffix for path in (tmp_path / "encode.out").iterdir()] == [".parquet", ".parquet"]
    assert len(list_names(tmp_path / "tables")) == 1


def test_endings_are_recognised_in_any_case(cli: Typed, model_file: Path) -> None:
    np.save("own.npy", make_pixels(5))
    for verb, *words in (
        ("sample", "--out", "A.PNG"),
        ("encode", "own.npy", "--out", "codes.CSV"),
        ("encode", "own.npy", "--out", "codes.NPZ"),
        ("encode", "own.npy", "--out", "codes.Parquet"),
    ):
        assert cli(verb, model_file, *words)[0] == 0
        assert Path(words[-1]).is_file()
    assert np.load("codes.NPZ")["mean"].shape == (5, 3)


@pytest.mark.parametrize(
    ("verb", "out", "code"),
    [
        ("sample", "own.npy/", 1),
        ("encode", "own.npy/a.csv", 1),
        ("sample", "own.npy/sheet.png", 1),
        ("sample", "own.npy", 2),
        ("encode", "codes.txt", 2),
        ("encode", "own.npy", 2),
    ],
)
def test_existing_files_are_never_replaced(cli: Typed, model_file: Path, verb: str, out: str, code: int) -> None:
    np.save("own.npy", make_pixels(5))
    found, printed, err = cli(verb, model_file, *(["own.npy"] if verb == "encode" else []), "--out", out)
    assert (found, printed) == (code, "")
    one_line(err)
    np.testing.assert_array_equal(np.load("own.npy"), make_pixels(5))


def test_names_fit_the_file_system(tmp_path: Path) -> None:
    overrides = {"network.hidden": [16] * 60, **{f"objective.{'k' * 40}{i}": "値" * 20 for i in range(3)}}
    name = run_directory("digits", overrides).name
    assert len(name.encode()) <= 255
    assert name == run_directory("digits", dict(reversed(overrides.items()))).name
    assert name != run_directory("digits", {**overrides, "network.hidden": [16] * 61}).name
    assert run_directory("digits", {"objective.beta": 4}).name == "digits-beta=4"
    longest = tmp_path / ("長" * 85)
    assert unique_path(longest) == longest
    longest.touch()
    second = unique_path(longest)
    second.touch()
    assert len({longest, second, unique_path(longest)}) == 3


def test_outputs_lie_next_to_the_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert default_out("runs/mine", "-web") == Path("runs/mine-web")
    assert default_out("runs/mine/model.safetensors", ".png") == Path("runs/mine.png")
    monkeypatch.chdir(tmp_path / "runs" / "mine")
    assert default_out(".", ".png") == tmp_path / "runs" / "mine.png"


def test_folders_that_do_not_exist_are_not_made(
    cli: Typed, trained: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    for words in (("sample", "--out", "new/a.png"), ("export", "--to", "onnx", "new/a"), ("doctor", "--out", "new/a")):
        code, _, err = cli(words[0], trained, *words[1:])
        assert code == 1
        wording(one_line(err))
    assert not (tmp_path / "new").exists()
