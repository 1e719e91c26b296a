"""``vaelab data``: listing, checking, downloading and caching."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx_set
from typed import TINY_WORDS, Typed, one_line

import vaelab
from vaelab.system.paths import cache_dir


def test_data_sets_are_listed_with_their_folders(cli: Typed, tmp_path: Path) -> None:
    write_idx_set(tmp_path / "d" / "mnist")
    code, out, _ = cli("data", "list", "--data", "d", "--json")
    places = {row["name"]: row["place"] for row in json.loads(out)}
    assert code == 0
    assert places["mnist"] == "d/mnist"
    assert len({places["digits"], places["fashion"], places["folder"]}) == 3
    assert "mnist\t60,000 train + 10,000 test\t28×28×1\t" in cli("data", "list", "--data", "d")[1]


def test_files_that_differ_from_the_published_ones_are_found(cli: Typed, tmp_path: Path) -> None:
    folder, fashion = write_idx_set(tmp_path / "mnist"), write_idx_set(tmp_path / "fashion")
    code, out, _ = cli("data", "check", "mnist", "--json")
    (found,) = json.loads(out)
    assert (code, found["data"], found["folder"]) == (1, "mnist", "mnist")
    assert len(found["files"]) == 6  # four files and two splits
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(b"")
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    code, out, _ = cli("data", "check", ".", "--json")
    files = {found["data"]: {row["file"]: row["verdict"] for row in found["files"]} for found in json.loads(out)}
    assert (code, set(files)) == (1, {"mnist", "fashion"})
    broken = {
        name
        for verdicts in files.values()
        for name, verdict in verdicts.items()
        if "damaged" in verdict and "idx" in name
    }
    assert {Path(name).name for name in broken} == {path.name, "t10k-labels-idx1-ubyte"}


def test_a_data_set_without_files_needs_no_download(cli: Typed, wording: Callable[[object], None]) -> None:
    code, out, err = cli("data", "get", "digits")
    assert (code, err) == (0, "")
    wording(out)


@pytest.mark.slow
def test_arrays_are_cached_and_trained_on(cli: Typed, wording: Callable[[object], None]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save("x.npy", pixels)
    np.savez("x.npz", images=pixels)
    code, out, err = cli("train", "folder", "--set", "data.name=folder", "--data", "x.npy")
    assert (code, out) == (1, "")
    wording(one_line(err))
    assert not (cache_dir() / "images").exists(), "refused before anything is decoded"
    arrays = ("--set", "data.valid=4")
    assert cli("data", "cache", "x.npz", "--as", "arrays", *arrays)[1].splitlines()[:2] == [
        "train: 36 images, 16×16 grey",
        "set aside from train: 4 images, 16×16 grey",
    ]
    for number, file in enumerate(("x.npz", "x.npy")):
        words = (*TINY_WORDS, *arrays, "--data", file, "--run", f"run{number}")
        assert cli("train", "folder", *words)[0] == 0
        assert vaelab.Run(f"run{number}").recipe.data["name"] == "arrays"
