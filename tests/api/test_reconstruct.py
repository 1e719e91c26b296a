"""Reconstructions of pictures in a folder, with unreadable and oddly named ones among them."""

from pathlib import Path

import numpy as np
import pytest
from inputs import list_names, make_pixels, read_picture, write_pictures
from typed import Typed, one_line

import vaelab
from vaelab.data.pictures import encode_png
from vaelab.system.messages import VaelabWarning

BROKEN = {0: b"", 5: b"no picture", 21: encode_png(make_pixels(1)[0])[:-30]}


def test_a_folder_holds_the_reconstructions_of_the_model(model_file: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "own" / "in", 11)
    vaelab.reconstruct(model_file, tmp_path / "own", out=tmp_path / "all")
    vaelab.reconstruct(model_file, tmp_path / "own", count=3, out=tmp_path / "some")
    names = [f"{i:02d}-in_{i:03d}.png" for i in range(11)]
    assert list_names(tmp_path / "all") == names
    assert list_names(tmp_path / "some") == [name[1:] for name in names[:3]]
    rebuilt = vaelab.load(model_file).reconstruct(make_pixels(11))
    for i, name in enumerate(names):
        np.testing.assert_allclose(read_picture(tmp_path / "all" / name), rebuilt[i, 0] * 255, atol=0.51)


def test_unreadable_pictures_are_left_out(model_file: Path, tmp_path: Path) -> None:
    folder, kept = write_pictures(tmp_path / "own", 30, BROKEN), [i for i in range(30) if i not in BROKEN]
    with pytest.warns(VaelabWarning) as warned:
        vaelab.reconstruct(model_file, folder, out=tmp_path / "all")
    assert all(f"{i:03d}.png" in str(warned[0].message) for i in BROKEN)
    assert list_names(tmp_path / "all") == [f"{n:02d}-{i:03d}.png" for n, i in enumerate(kept)]
    rebuilt = vaelab.load(model_file).reconstruct(make_pixels(30)[kept])
    for n, name in enumerate(list_names(tmp_path / "all")):
        np.testing.assert_allclose(read_picture(tmp_path / "all" / name), rebuilt[n, 0] * 255, atol=0.51)
    with pytest.warns(VaelabWarning):
        vaelab.reconstruct(model_file, folder, count=6, out=tmp_path / "some")
    assert [name[2:5] for name in list_names(tmp_path / "some")] == ["001", "002", "003", "004", "006", "007"]


@pytest.mark.filterwarnings("error")
def test_only_the_pictures_asked_for_are_read(model_file: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", 30, {21: b""})
    path = vaelab.reconstruct(model_file, folder, count=21, strict=True, out=tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_with_strict_an_unreadable_picture_is_an_error(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", 30, {21: b""})
    for verb, *words in (("encode",), ("reconstruct", "-n", 30), ("reconstruct", "--out", "all/")):
        code, out, err = cli(verb, model_file, "own", "--strict", *words)
        assert (code, out, "own/021.png" in one_line(err)) == (1, "", True)
        assert list_names(tmp_path) == ["own"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_is_raised_if_no_picture_is_readable(cli: Typed, model_file: Path, tmp_path: Path, count: int) -> None:
    write_pictures(tmp_path / "own", count, dict.fromkeys(range(count), b"no picture"))
    place = "own/000.png" if count == 1 else "own"
    for verb, *words in (
        ("encode",), ("encode", "--out", "a.npz"), ("reconstruct",), ("reconstruct", "--out", "all/"),
    ):  # fmt: skip
        code, out, err = cli(verb, model_file, place, *words)
        assert (code, out) == (1, "")
        assert one_line(err).startswith(f"{place}: ")
        assert list_names(tmp_path) == ["own"]


def test_long_names_of_any_script_get_files_of_their_own(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    pixels, long = make_pixels(4), "長い名前" * 20  # 240 bytes
    for i, name in enumerate(("a" * 240, f"{long}0", f"{long}1", "short")):
        place = tmp_path / "own" / long / long
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.png").write_bytes(encode_png(pixels[i]))
    assert cli("reconstruct", model_file, "own", "--out", "all/")[0] == 0
    names = list_names(tmp_path / "all")
    assert [name[0] for name in names] == list("0123")
    assert all(len(name.encode()) <= 255 and name.endswith(".png") for name in names)
    assert len({name[1:] for name in names}) == 4
    assert cli("reconstruct", model_file, "own", "--out", tmp_path / "again")[0] == 0
    assert list_names(tmp_path / "again") == names, "the digest in a name depends only on the name"
    for name in (f"{'c' * 251}.csv", f"{'p' * 247}.parquet", f"{'n' * 251}.npz"):
        assert cli("encode", model_file, "own", "--out", name)[0] == 0
        assert Path(name).is_file()
