"""A person's own pictures, from a messy folder to a finished run."""

import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import csv, parquet
from typed import Typed, train_small

import vaelab
from vaelab.data import scan as scanning
from vaelab.data.datasets import _resize, _survey, folder
from vaelab.data.datasets._survey import split_by_name
from vaelab.data.datasets.folder import find, get, load
from vaelab.data.images import Images
from vaelab.data.pictures import encode_png
from vaelab.data.scan import Entry
from vaelab.run import Run
from vaelab.system.messages import VaelabWarning

TINY = ["--set", "network.name=mlp", "--set", "network.hidden=[16]", "--set", "training.steps=20",
        "--set", "training.threads=1", "--set", 'training.figures=["losses"]']  # fmt: skip


NO_FOLDERS = {"train": "", "valid": 0, "test": ""}
"""What the folders of the splits are if there are none."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    folder._surveyed.clear()
    return tmp_path / "cache" / "vaelab" / "images"


def put(path: Path, size: tuple[int, int] = (28, 28), shade: Any = 100, **options: Any) -> Path:
    """A picture of one colour, of this width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(shade, int) else "RGB", size, shade).save(path, **options)
    return path


def put_many(root: Path, count: int, size: tuple[int, int] = (28, 28)) -> Path:
    """Pictures whose colour is their number."""
    for i in range(count):
        put(root / f"{i:03d}.png", size, i)
    return root


def shades(images: Images) -> list[int]:
    return np.asarray(images.pixels)[:, 0, 0, 0].tolist()


def both(root: Path, **options: Any) -> tuple[Images, Images]:
    return load(root, "train", **options), load(root, "test", **options)


# -- splits -----------------------------------------------------------------------------------------------------------


def entries(names: Any) -> list[Entry]:
    return [Entry(("root", name), 1, 1) for name in names]


def test_every_picture_is_in_one_split_and_says_so(tmp_path: Path) -> None:
    train, test = both(put_many(tmp_path / "own", 60))
    assert sorted(shades(train) + shades(test)) == list(range(60))
    assert 1 <= len(test) <= 15
    said = f"validated on {len(test)} of 60 pictures, chosen by their names (vaelab's own fixed split)"
    assert said in train.notes
    assert said in test.notes
    assert train.source == test.source == str(tmp_path / "own")
    with pytest.raises(ValueError, match="folder has the splits train and test; there is no split 'valid'"):
        load(tmp_path / "own", "valid")


file_names = st.lists(st.text("abcdefgh/", min_size=1, max_size=9).map(lambda text: f"{text}.png"), unique=True)


@given(file_names.filter(lambda names: len(names) > 1), file_names)
def test_no_picture_changes_sides_when_others_come_or_go(names: list[str], more: list[str]) -> None:
    few, _ = split_by_name(entries(names))
    many, _ = split_by_name(entries(dict.fromkeys([*names, *more])))
    assert few["train"]
    assert few["test"]
    assert len(few["train"]) + len(few["test"]) == len(names)
    limit = (1 << 64) // 10
    sides = {scanning.hash_name(name) < limit for name in names}
    if len(sides) == 2:  # else one had to be taken for the empty side
        assert {entry.item[1] for entry in few["test"]} <= {entry.item[1] for entry in many["test"]}
        assert {entry.item[1] for entry in few["train"]} <= {entry.item[1] for entry in many["train"]}


def test_about_one_in_ten_is_held_out() -> None:
    splits, _ = split_by_name(entries(f"IMG_{i:05d}.JPG" for i in range(20_000)))
    assert 0.094 < len(splits["test"]) / 20_000 < 0.106  # three standard deviations


@pytest.mark.parametrize("top", ["", "download/"])
@pytest.mark.parametrize(("train", "held"), [("train", "val"), ("Training", "TEST"), ("train", "validation")])
def test_folders_named_for_splits_are_the_splits(tmp_path: Path, top: str, train: str, held: str) -> None:
    for i in range(8):
        put(tmp_path / "own" / top / (train if i < 5 else held) / ("cat" if i % 2 else "dog") / f"{i}.png", shade=i)
    images = both(tmp_path / "own")
    assert [shades(part) for part in images] == [[1, 3, 0, 2, 4], [5, 7, 6]]
    assert [part.labels.tolist() for part in images if part.labels is not None] == [[0, 0, 1, 1, 1], [0, 0, 1]]
    assert images[0].label_names == ("cat", "dog")
    assert f"trained on {top}{train}/, 5 pictures; validated on {top}{held}/, 3 pictures" in images[0].notes
    assert [part.split_name for part in images] == ["", f"{top}{held}"]
    assert images[0].resolved["train"] == f"{top}{train}"


def test_what_lies_outside_of_the_split_folders_is_counted(tmp_path: Path) -> None:
    for i, name in enumerate(["train/a", "train/b", "val/c", "test/d", "test/e", "loose"]):
        put(tmp_path / "own" / f"{name}.png", shade=i)
    train, test = both(tmp_path / "own")
    assert (shades(train), shades(test)) == ([0, 1], [2])
    assert "1 of 6 pictures lies outside train/ and val/ and is left out: loose.png" in train.notes
    assert len(train.warnings) == 1
    assert train.warnings[0].startswith("test/ looks like a split and is not used")


# -- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cat/1", "cat/2", "dog/1", "dog/2"], ("cat", "dog")),
        (["pets/cat/1", "pets/cat/deep/2", "pets/dog/1", "pets/dog/2"], ("cat", "dog")),
        (["train/cat/1", "train/cat/2", "train/dog/1", "train/dog/2"], ("cat", "dog")),
        (["b 猫/1", "b 猫/2", "a\n/1", "a\n/2"], ("a\\n", "b 猫")),
        (["cat/1", "cat/2", "dog/1", "dog/2", "loose"], ("cat", "dog")),  # one elsewhere is left out
        (["cat/1", "cat/2", "dog/1", "dog/2", "loose 1", "loose 2"], ()),
        (["a/1", "b/1", "c/1", "d/1", "d/2"], ()),  # one picture in most of them: folders by date, not classes
        (["one/1", "one/2"], ()),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_subfolders_are_classes(tmp_path: Path, names: list[str], classes: tuple[str, ...], packed: bool) -> None:
    root = tmp_path / "own"
    for name in names:
        top = next((part for part in name.split("/") if part in ("cat", "dog", "a\n", "b 猫")), "x")
        put(root / f"{name}.png", shade=ord(top[0]))  # of the class
    place = Path(shutil.make_archive(str(root), "zip", root)) if packed else root
    images = both(place)
    assert images[0].label_names == images[1].label_names == classes
    for part in images:
        assert (part.labels is not None) == bool(classes)
        if part.labels is not None:
            assert [classes[label][0] for label in part.labels] == [chr(shade) for shade in shades(part)]


def test_a_class_that_is_named_in_no_encoding_can_be_printed(tmp_path: Path) -> None:
    try:
        for name in (b"caf\xe9/1.png", b"caf\xe9/2.png", b"tea/1.png", b"tea/2.png"):
            put(tmp_path / "own" / os.fsdecode(name))
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    assert load(tmp_path / "own", "train").label_names == ("caf\\udce9", "tea")


# -- size and colour --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(28, 28)], (28, 28)),
        ([(20, 33)], (33, 20)),  # sizes are width and height
        ([(64, 8)], (8, 64)),
        ([(65, 65)], (64, 64)),
        ([(300, 200), (4000, 90), (80, 70)], (64, 64)),
        ([(40, 300), (33, 50), (63, 63)], (32, 32)),
        ([(16, 31), (31, 16), (17, 900)], (16, 16)),
        ([(5, 5)], (8, 8)),
        ([(1, 1), (3, 900)], (8, 8)),
    ],
)
def test_the_size_suits_the_pictures(tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]) -> None:
    for i, size in enumerate(sizes * 2):
        put(tmp_path / "own" / f"{i}.png", size)
    train = load(tmp_path / "own", "train")
    assert train.image_shape == (1, *shape)
    assert train.resolved == {"size": list(shape), "channels": "grey", "background": "white", **NO_FOLDERS}


def test_what_is_set_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "own"
    for name in "abcd":
        put(root / f"{name}.png", (40, 20), shade=(200, 100, 50))
    assert load(root, "train").image_shape == (3, 20, 40)
    assert load(root, "train", size=24).image_shape == (3, 24, 24)
    assert load(root, "train", size=24).resolved == {"channels": "rgb", "background": "white", **NO_FOLDERS}
    assert load(root, "train", size=[20, 33], channels="grey").image_shape == (1, 20, 33)
    assert load(root, "train", size=[20, 33], channels="grey", background="black").resolved == NO_FOLDERS
    padded = np.asarray(load(root, "train", size=16, fit="pad", background="black").pixels)
    assert padded[0, :, 8, 0].tolist() == [0] * 4 + [200] * 8 + [0] * 4


def test_one_picture_in_colour_makes_all_of_them_colour(tmp_path: Path) -> None:
    put_many(tmp_path / "own", 9)
    assert load(tmp_path / "own", "train").image_shape == (1, 28, 28)
    put(tmp_path / "own" / "z.jpg", shade=(200, 30, 30))
    assert load(tmp_path / "own", "train").image_shape == (3, 28, 28)


def test_pictures_of_every_kind_become_one_size(tmp_path: Path) -> None:
    root = tmp_path / "own"
    colour = (200, 100, 50)
    for i, name in enumerate(["a.png", "b.JPG", "c.webp", "d.tiff", "e.bmp", "f.gif"]):
        put(root / name, (90 + 30 * i, 120), colour)
    Image.new("RGBA", (100, 100), (*colour, 255)).save(root / "g.png")
    Image.new("CMYK", (100, 100), (55, 155, 205, 0)).save(root / "h.jpg")
    Image.new("P", (100, 100)).save(root / "i.png")
    Image.fromarray(np.full((70, 80), 40_000, np.uint16)).save(root / "j.png")
    Image.new("1", (100, 100), 1).save(root / "k.png")
    Image.new("LA", (100, 100), (0, 0)).save(root / "l.png")
    train, test = both(root)
    assert train.image_shape == test.image_shape == (3, 64, 64)
    values = np.concatenate([np.asarray(part.pixels) for part in (train, test)])
    assert len(values) == 12
    assert np.ptp(values, axis=(1, 2)).max() <= 3  # each has one colour
    coloured = [value for value in values[:, 32, 32].astype(int) if np.abs(value - colour).max() <= 4]
    assert len(coloured) == 8


def test_pictures_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put_many(tmp_path / "own", 9)
    first = load(root, "train")

    def fail(*_: object) -> None:
        raise AssertionError("looked again")

    with monkeypatch.context() as patch:
        patch.setattr(_resize, "look", fail)
        assert load(root, "train").resolved == first.resolved
        assert load(root, "test").resolved == first.resolved


# -- what is wrong with them ------------------------------------------------------------------------------------------


def messy(root: Path) -> Path:
    """Nine good pictures, six that are none, and other things."""
    put_many(root, 9)
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_text("not a picture")
    (root / "half.png").write_bytes(encode_png(np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8))[:300])
    (root / "nowhere.png").symlink_to("none.png")
    os.mkfifo(root / "pipe.png")
    bomb = bytearray((root / "000.png").read_bytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (root / "bomb.png").write_bytes(bytes(bomb))
    (root / "notes.txt").write_text("mine")
    (root / "clip.mp4").write_bytes(b"film")
    (root / "clip2.mp4").write_bytes(b"film")
    (root / "README").write_text("read me")
    (root / ".hidden.png").write_text("hidden")
    (root / "loop").symlink_to(".")
    return root


def test_what_cannot_be_read_is_left_out_with_a_count(tmp_path: Path) -> None:
    train, test = both(messy(tmp_path / "own"))
    assert sorted(shades(train) + shades(test)) == list(range(9))
    lost = [note for part in (train, test) for note in part.notes if "cannot be read (first:" in note]
    assert sum(int(note.split()[0]) for note in lost) == 6
    assert all("; vaelab data check lists them" in note for note in lost)
    assert "4 files without a picture's ending: left out" in train.notes
    assert "1 link to folders that are read already: left out" in train.notes


def test_strict_refuses_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = messy(tmp_path / "own")
    says = r"own, train split: \d of \d+ pictures cannot be read \(first: .*\); leave data\.strict \(--strict\) out to"
    for _ in range(2):  # without a cache entry, then with one
        with pytest.raises(ValueError, match=says):
            load(root, "train", strict=True)
        load(root, "train")
    opened = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).rstrip("/").endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(scanning.os, "scandir", refuse)
    put_many(tmp_path / "other", 9)
    put(tmp_path / "other" / "shut" / "a.png")
    assert (
        "1 folder cannot be opened (first: shut: Permission denied): left out"
        in load(tmp_path / "other", "train").notes
    )
    with pytest.raises(ValueError, match=r"other: 1 folder cannot be opened \(first: shut: Permission denied\); leave"):
        load(tmp_path / "other", "train", strict=True)
    with pytest.raises(ValueError, match=r"1 folder cannot be opened"):
        load(tmp_path / "other" / "shut", "train")


@pytest.mark.parametrize("broken", [{0}, {3}, {0, 1, 2}, {1, 2, 3}, {0, 2, 4}, {0, 1, 2, 3}])
def test_of_a_few_pictures_one_that_can_be_read_is_on_each_side(tmp_path: Path, broken: set[int]) -> None:
    for i in range(5):
        path = put(tmp_path / "own" / f"{i}.png", shade=40 * i)
        if i in broken:
            path.write_bytes(b"")
    train, test = (load(tmp_path / "own", split) for split in ("train", "test"))
    shades = {int(image.flat[0]) // 40 for part in (train, test) for image in part.pixels}
    assert shades == set(range(5)) - broken
    assert len(train) + len(test) == max(2, 5 - len(broken))  # the only one serves for both


def test_not_one_readable_picture(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / "own" / f"{i}.png").write_bytes(b"")
    says = r"own: 3 of 3 pictures cannot be read \(first: .*: empty file\); take these out"
    with pytest.raises(ValueError, match=says):
        load(tmp_path / "own", "train")


def test_no_pictures_at_all(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(
        ValueError, match=r"own: no pictures here \(PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF, PNM, JPEG 2000, HEIC\)$"
    ):
        load(tmp_path / "own", "train")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"HEIC\); 1 other files, such as notes.txt$"):
        load(tmp_path / "own", "train")
    (tmp_path / "own" / "photos.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"photos\.zip|name the \.zip itself"):
        load(tmp_path / "own", "train")
    (tmp_path / "own.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"own\.tar\.gz: no folder, no \.zip and no picture; unpack it"):
        load(tmp_path / "own.tar.gz", "train")
    with pytest.raises(FileNotFoundError, match="gone: no such file or folder"):
        load(tmp_path / "gone", "train")
    with pytest.raises(ValueError, match="folder needs your pictures: vaelab train folder --data PATH"):
        load(None, "train")
    with pytest.raises(ValueError, match="vaelab train folder --data PATH"):
        get(None)
    assert [find(None), find(tmp_path / "own")] == [None, None]


@pytest.mark.parametrize("count", [1, 2, 3, 31])
def test_few_pictures(tmp_path: Path, count: int) -> None:
    train, test = both(put_many(tmp_path / "own", count))
    assert sorted({*shades(train), *shades(test)}) == list(range(count))
    assert len(train) + len(test) == max(count, 2)
    if count == 1:
        assert "the one picture serves for training and for validation" in train.notes


def test_a_picture_alone_is_a_data_set(tmp_path: Path) -> None:
    path = put(tmp_path / "only one.png", shade=7)
    assert [shades(part) for part in both(path)] == [[7], [7]]


def test_zips_are_read_where_they_lie(tmp_path: Path) -> None:
    content = put(tmp_path / "a.png", shade=7).read_bytes()
    path = tmp_path / "Own.ZIP"
    with zipfile.ZipFile(path, "w") as written:
        for i, name in enumerate(["../../evil.png", "/tmp/evil.png", "tmp/a 1.png", "tmp/🐈.png", "tmp/x.txt"]):
            written.writestr(name, content if i < 4 else "text")
        written.writestr("tmp/broken.png", b"broken")
    before = sorted(tmp_path.rglob("*"))
    train, test = both(path)
    assert shades(train) + shades(test) == [7] * 4
    assert [item for item in sorted(tmp_path.rglob("*")) if "cache" not in item.parts] == before
    assert not Path("/tmp/evil.png").exists()


# -- the same again ---------------------------------------------------------------------------------------------------


def test_a_later_load_decodes_nothing_and_lists_the_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put_many(tmp_path / "own", 30)
    before = both(root)
    scans = []

    def count(place: Path) -> Any:
        scans.append(place)
        return scanning.scan(place)

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(_survey, "scan", count)
    monkeypatch.setattr("vaelab.data.decode.decode", fail)
    again = both(root)
    assert [part.digest for part in again] == [part.digest for part in before]
    assert scans == [root]
    load(root, "test")
    assert len(scans) == 2  # of the same split it is another load
    monkeypatch.setattr(folder, "FRESH_SECONDS", 0.0)
    load(root, "train")
    assert len(scans) == 3


def test_a_change_makes_another_cache_entry_of_its_split_alone(tmp_path: Path, cache: Path) -> None:
    root = put_many(tmp_path / "own", 30)
    options: dict[str, Any] = {"size": 28, "channels": "grey"}
    train, test = both(root, **options)
    entries = {path.name for path in cache.iterdir() if path.is_dir()}
    assert len(entries) == 2
    assert scanning.hash_name("zz.png") >= (1 << 64) // 10
    put(root / "zz.png", shade=255)
    more = both(root, **options)
    assert shades(more[0]) == [*shades(train), 255]
    assert more[1].digest == test.digest
    assert len({path.name for path in cache.iterdir() if path.is_dir()} - entries) == 1
    put(root / "zz.png", shade=254)
    os.utime(root / "zz.png", ns=(10**18, 10**18))
    assert shades(load(root, "train", **options))[-1] == 254
    assert load(root, "train", size=16).image_shape == (1, 16, 16)
    assert load(root, "train", size=16, fit="pad").digest == load(root, "train", size=16).digest  # square pictures
    assert len({path.name for path in cache.iterdir() if path.is_dir()} - entries) == 4


def test_two_places_with_the_same_pictures_are_the_same_data(tmp_path: Path) -> None:
    first = put_many(tmp_path / "one", 12)
    shutil.copytree(first, tmp_path / "two")
    digests = [[part.digest for part in both(place)] for place in (first, tmp_path / "two")]
    assert digests[0] == digests[1]
    assert digests[0][0] == Images(np.asarray(load(first, "train").pixels)).fingerprint()


# -- typed ------------------------------------------------------------------------------------------------------------


def one_line(err: str) -> str:
    assert err.startswith("vaelab: ")
    assert err.count("\n") == 1
    return err


def test_check_lists_what_is_wrong(cli: Typed, tmp_path: Path) -> None:
    messy(tmp_path / "own")
    code, out, err = cli("data", "check", "own")
    assert (code, err) == (1, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "folder in own:"
    assert set(lines[1:]) == {
        "bomb.png: far too many pixels; the limit against decompression bombs is 89,000,000 (data.max_pixels)",
        "empty.png: empty file",
        "half.png: damaged, or of a kind that cannot be read (image file is truncated)",
        "nowhere.png: a broken link",
        "pipe.png: not a file, but a folder, a pipe or a device",
        "text.jpg: not a picture, or damaged at its beginning",
        "loop: ok, left out: a link to a folder that is read already",
        "2 files with .mp4: ok, left out: not a picture's ending",
        "1 file with .txt: ok, left out: not a picture's ending",
        "1 file without an ending: ok, left out: not a picture's ending",
        "content: ok: pixel values from 0 to 8, mean 4.0 (of 255)",
        "content: ok: 9 of 9 pictures are one flat colour (first: 000.png)",
        "content: ok, but pixel values use only 0 to 8 of 0 to 255",
        "content: ok, but 9 of 9 pictures show one flat colour and nothing else",
        "9 of 15 pictures: ok",
        ".hidden.png: ok, hidden: left out",
        *folder.describe_layout(tmp_path / "own")[0],
    }
    for name in ("bomb.png", "empty.png", "half.png", "nowhere.png", "pipe.png", "text.jpg"):
        (tmp_path / "own" / name).unlink()
    code, out, _ = cli("data", "check", "own", "--json")
    assert code == 0
    assert json.loads(out)[0]["notes"] == folder.describe_layout(tmp_path / "own")[0]
    assert json.loads(out)[0]["warnings"] == []
    assert json.loads(out)[0]["files"][-1] == {"file": "9 of 9 pictures", "verdict": "ok"}


def test_check_and_messages_survive_any_name(cli: Typed, tmp_path: Path) -> None:
    put_many(tmp_path / "own", 3)
    for name in ("two\nlines.png", "\x1b[2J.png", os.fsdecode(b"\xff.png"), "notes.\x07", "🐈.png"):
        try:
            (tmp_path / "own" / name).write_bytes(b"")
        except OSError as error:
            pytest.skip(f"this file system refuses the name: {error}")
    code, out, _ = cli("data", "check", "own")
    assert code == 1
    assert len([line for line in out.splitlines() if "content: " not in line]) == 1 + 4 + 1 + 1 + 3
    assert {line.strip() for line in out.splitlines()} >= {
        "two\\nlines.png: empty file", "\\x1b[2J.png: empty file", "\\udcff.png: empty file", "🐈.png: empty file",
        "1 file with .\\x07: ok, left out: not a picture's ending",
    }  # fmt: skip
    assert not set(out) & {"\x1b", "\x07"}
    one_line(cli("train", "folder", *TINY, "--data", "own", "--strict")[2])


def test_data_cache_says_what_a_training_would_load(cli: Typed, tmp_path: Path, cache: Path) -> None:
    messy(tmp_path / "own")
    code, out, err = cli("data", "cache", "own", "--set", "data.size=16")
    assert (code, err) == (0, "")
    train, test = both(tmp_path / "own", size=16)
    lines = out.splitlines()
    assert lines[:2] == [f"train: {len(train)} images, 16×16 grey", f"test: {len(test)} images, 16×16 grey"]
    assert all(out.count(note) == 1 for note in train.notes)
    for part, split in ((train, "train"), (test, "test")):
        lost = [note for note in part.notes if f"left out of {split}" in note]
        assert bool(lost) == bool(part.selection["left_out"])
        assert all(out.count(note) == 1 for note in lost)
    assert "left out of train" in out
    entries = sorted(path.name for path in cache.iterdir())
    assert cli("data", "cache", "own", "--set", "data.size=16")[0] == 0
    assert sorted(path.name for path in cache.iterdir()) == entries
    code, _, err = cli("data", "cache", "own", "--strict")
    assert code == 1
    assert "leave data.strict (--strict) out to go on without them" in one_line(err)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run on forty pictures of two classes and of all sizes, and where they lie."""
    place = tmp_path_factory.mktemp("trained")
    for i in range(40):
        put(place / "my pictures" / ("cat 猫" if i % 2 else "dog") / f"{i} é.png", (20 + i, 60 - i), (6 * i, 100, 50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        vaelab.train("folder", {"network.name": "mlp", "network.hidden": [16], "training.steps": 20,
                             "training.threads": 1}, data=place / "my pictures", run=place / "run")  # fmt: skip
    return place / "run", place / "my pictures"


@pytest.fixture
def finished(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of that run and of its pictures."""
    run, place = trained
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(place, tmp_path / "my pictures")
    machine = json.loads((tmp_path / "run" / "machine.json").read_text())
    machine["data_dir"] = str(tmp_path / "my pictures")
    (tmp_path / "run" / "machine.json").write_text(json.dumps(machine))
    return tmp_path / "run", tmp_path / "my pictures"


def test_a_run_on_own_pictures_is_complete(trained: tuple[Path, Path]) -> None:
    run = Run.open(trained[0])
    assert run.is_finished
    assert {"data", "losses", "reconstructions", "samples"} <= set(run.figures)
    assert run.recipe.data["size"] == [16, 16]
    assert run.recipe.data["channels"] == "rgb"
    assert (run.recipe.objective["beta"], run.recipe.network["latent_dim"]) == (0.062, 4)
    protocol = run.evaluation["elbo"]["measured_on"]
    assert (protocol["data"], protocol["size"], protocol["fit"], protocol["split"]) == (
        "folder",
        [16, 16],
        "crop",
        "test",
    )
    page = (run.path / "report.html").read_text()
    assert "vaelab&#39;s own fixed split" in page or "vaelab's own fixed split" in page


def test_the_same_command_again_says_done_and_other_pictures_are_refused(
    cli: Typed, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    run, place = finished
    code, out, err = cli("train", "folder", *TINY, "--data", place, "--run", run)
    assert (code, err) == (0, "")
    assert "is done already" in out
    put_many(tmp_path / "others", 12)
    code, _, err = cli("train", "folder", *TINY, "--data", "others", "--run", run)
    assert code == 1
    assert "not in others" in one_line(err)
    assert cli("evaluate", run)[0] == 0


def held_out_names(run: Path) -> list[str]:
    """The names of the held-out pictures of a run, as it remembers them."""
    return list(json.loads((run / "pictures.json").read_text())["test"]["names"])


def test_a_run_goes_on_with_its_own_pictures_after_others_were_added(cli: Typed, finished: tuple[Path, Path]) -> None:
    run, place = finished
    history = (run / "history.csv").read_bytes()
    (run / "model.safetensors").unlink()  # as if it had been stopped
    shutil.rmtree(run / "checkpoints")
    (run / "history.csv").unlink()
    assert scanning.hash_name("dog/new.png") >= (1 << 64) // 10
    put(place / "dog" / "new.png", shade=(1, 2, 3))
    code, out, err = cli("train", "folder", *TINY, "--data", place, "--run", run)
    assert (code, err) == (0, "")
    assert "have changed (1 came): the 40 that the run began with are used" in out
    assert (run / "history.csv").read_bytes() == history


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_run_is_measured_on_its_own_pictures_after_others_were_added(
    cli: Typed, finished: tuple[Path, Path], trained: tuple[Path, Path], tmp_path: Path, is_cached: bool
) -> None:
    run, place = finished
    if is_cached:
        shutil.copytree(trained[0].parent / "cache", tmp_path / "cache")
    before = json.loads((run / "evaluation.json").read_text())["elbo"]
    names = ["cat 猫/new.png", "dog/new.png", "dog/newer.png", "dog/o.png"]
    assert {scanning.hash_name(name) < (1 << 64) // 10 for name in names} == {True, False}  # new ones on both sides
    for name in names:
        put(place / name, (31, 17), (1, 2, 3))
    said = f"the pictures in {place} have changed (4 came): the 40 that the run began with are used"
    for verb in ("evaluate", "figures", "doctor"):
        code, _, err = cli(verb, run)
        assert code == 0
        assert err.count(said) == 1
    assert json.loads((run / "evaluation.json").read_text())["elbo"]["elbo"] == before["elbo"]
    code, _, err = cli("encode", run, "--out", "codes.csv")
    assert code == 0
    assert said in err
    assert csv.read_csv("codes.csv")["image"].to_pylist() == held_out_names(run)
    with pytest.warns(VaelabWarning) as caught:
        payload = vaelab.explore([run])[0].payload
    assert [str(warning.message) for warning in caught] == [said]
    assert payload.manifest["total"] == 40 - len(held_out_names(run))


def test_pictures_that_are_gone_come_from_the_cache_else_are_refused(
    cli: Typed, finished: tuple[Path, Path], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, place = finished
    selections = json.loads((run / "pictures.json").read_text())
    for selection in selections.values():
        selection["place"] = str(place)  # as if it had been trained here
    (run / "pictures.json").write_text(json.dumps(selections))
    gone = place / held_out_names(run)[0]
    content = gone.read_bytes()
    gone.unlink()
    code, _, err = cli("evaluate", run)
    assert code == 1
    assert f"1 of the {len(held_out_names(run))} pictures of the test split is not in {place}" in one_line(err)
    assert cli("evaluate", run, "--data", trained[1])[0] == 0  # as the message advises
    gone.write_bytes(content)
    code, _, err = cli("evaluate", run)
    assert code == 0
    assert "(some files have another size or date): the 40 that the run began with are used" in err
    shutil.copytree(trained[0].parent / "cache", tmp_path / "cache", dirs_exist_ok=True)
    gone.unlink()
    assert cli("evaluate", run)[0] == 0
    code, _, err = cli("doctor", run)
    assert code == 0
    assert "(1 is gone): the 40 that the run began with are used" in err
    shutil.rmtree(place)
    code, _, err = cli("doctor", run)
    assert code == 0
    assert f"{place} is not there: the pictures come from the cache" in err
    shutil.rmtree(tmp_path / "cache")
    code, _, err = cli("doctor", run)
    assert code == 1
    assert "put them back, or name a folder that has them" in one_line(err)


def test_a_broken_picture_that_was_repaired_since_stays_out(cli: Typed, tmp_path: Path) -> None:
    root = put_many(tmp_path / "own", 12)
    good = (root / "003.png").read_bytes()
    (root / "003.png").write_bytes(b"")
    assert cli("train", "folder", *TINY, "--data", root, "--run", "run")[0] == 0
    (root / "003.png").write_bytes(good)
    code, _, err = cli("evaluate", "run", "--metrics", "elbo")
    assert (code, err) == (0, "")
    assert cli("train", "folder", *TINY, "--data", root, "--run", "another")[0] == 0  # replaces the cache entry
    code, _, err = cli("evaluate", "run", "--metrics", "elbo")
    assert (code, err) == (0, "")


def test_a_run_whose_held_out_pictures_have_no_classes(cli: Typed, tmp_path: Path) -> None:
    for i in range(36):
        put(tmp_path / "own" / ("test" if i < 6 else "train/cat" if i % 2 else "train/dog") / f"{i}.png", shade=7 * i)
    assert cli("train", "folder", *TINY, "--data", "own", "--run", "run")[0] == 0
    run = Run.open(tmp_path / "run")
    assert run.machine["validated_on"] == "test"
    assert any("2 classes: cat, dog" in note for note in run.machine["notes"])
    for words in (["evaluate"], ["figures"], ["doctor"], ["report"]):
        assert cli(*words, "run")[0] == 0
    assert "probe" not in run.evaluation
    assert {"label"} == {group["name"] for group in vaelab.explore([run.path])[0].payload.manifest["groups"]}
    assert cli("score", "run", "--out", "scores.csv")[0] == 0
    table = csv.read_csv("scores.csv")
    assert sorted(table["image"].to_pylist()) == [f"test/{i}.png" for i in range(6)]
    assert "class" not in table.column_names


def test_held_out_pictures_are_chosen_and_named_in_tables(cli: Typed, tmp_path: Path) -> None:
    for i in range(40):
        put(
            tmp_path / "own" / ("train/good" if i < 20 else "test/good" if i < 30 else "test/broken") / f"{i}.png",
            shade=i,
        )
    code, out, _ = cli("data", "check", "own", "--json")
    assert (code, len(json.loads(out)[0]["warnings"])) == (0, 1)
    assert "data.test=test/good" in json.loads(out)[0]["warnings"][0]
    assert cli("data", "check", "own", "--set", "data.test=tst")[0] == 2
    code, out, _ = cli("train", "folder", *TINY, "--data", "own", "--run", "both")
    assert code == 0
    assert out.count("warning: ") == out.count("data.test=test/good") == 1
    assert cli("score", "both", "--out", "scores.parquet")[0] == 0
    table = parquet.read_table("scores.parquet")
    assert set(zip(table["label"].to_pylist(), table["class"].to_pylist(), strict=True)) == {(0, "broken"), (1, "good")}
    assert all(
        name.split("/")[1] == of
        for name, of in zip(table["image"].to_pylist(), table["class"].to_pylist(), strict=True)
    )
    assert cli("encode", "both", "--out", "codes.csv")[0] == 0
    assert csv.read_csv("codes.csv")["class"].to_pylist() == ["broken"] * 10 + ["good"] * 10
    assert cli("encode", "both", "--out", "codes.npz")[0] == 0
    assert np.load("codes.npz")["label_names"].tolist() == ["broken", "good"]
    code, out, err = cli(
        "train", "folder", *TINY, "--data", "own", "--set", "data.test=test/good", "--run", "good", "--json"
    )
    assert (code, err) == (0, "")
    run = Run.open(tmp_path / "good")
    assert run.machine["validated_on"] == "test/good"
    assert run.evaluation["elbo"]["protocol"]["images"] == 10


def test_hidden_folders_are_classes_or_named(cli: Typed, tmp_path: Path) -> None:
    for name in ("java", "c", ".net", ".thumbnails"):
        put_many(tmp_path / "own" / name, 8)
    put(tmp_path / "own" / "java" / ".secret" / "deep" / "a.png")
    images = load(tmp_path / "own", "train")
    assert images.label_names == (".net", "c", "java")
    assert any(".net/" in note for note in images.notes)
    assert any("java/.secret/ (1)" in note for note in images.notes)
    _, out, _ = cli("data", "check", "own")
    assert ".thumbnails/: ok, hidden" in out
    assert "24 of 24 pictures: ok" in out
    path = Path(shutil.make_archive("zipped", "zip", tmp_path / "own"))
    assert load(path, "train").label_names == (".net", "c", "java")


def test_a_damaged_list_of_pictures_names_its_remedy(cli: Typed, finished: tuple[Path, Path]) -> None:
    run, _ = finished
    for content in ("", "[]", "{}x", '{"train": 1}', '{"other": {}}', '{"train": {"names": 3}, "test": {}}'):
        (run / "pictures.json").write_text(content)
        code, _, err = cli("evaluate", run)
        assert code == 1
        assert "pictures.json" in one_line(err)
        assert "remove it" in err
    (run / "pictures.json").unlink()
    assert cli("evaluate", run)[0] == 0


def test_the_split_of_a_run_stays_when_a_better_one_appears(cli: Typed, tmp_path: Path) -> None:
    for i in range(12):
        put(tmp_path / "own" / ("train" if i < 8 else "test") / f"{i}.png", shade=20 * i)
    assert cli("train", "folder", *TINY, "--data", "own", "--run", "run")[0] == 0
    recipe = Run.open(tmp_path / "run").recipe
    assert (recipe.data["train"], recipe.data["test"], recipe.data["valid"]) == ("train", "test", 0)
    put(tmp_path / "own" / "val" / "x.png")
    assert load(tmp_path / "own", "test").split_name == "val"
    code, _, err = cli("encode", "run", "--out", "codes.csv")
    assert (code, err) == (0, "")
    assert csv.read_csv("codes.csv")["image"].to_pylist() == ["test/10.png", "test/11.png", "test/8.png", "test/9.png"]
    assert "is done already" in cli("train", "folder", *TINY, "--data", "own", "--run", "run")[1]
    code, _, err = cli("train", "folder", *TINY, "--set", "data.valid=val", "--data", "own", "--run", "run")
    assert code == 1
    assert "data.valid: 0 there" in one_line(err)


def test_pictures_of_other_sizes_by_a_run(cli: Typed, finished: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = finished
    put(tmp_path / "new" / "large ä.jpg", (300, 200), (200, 30, 30))
    put(tmp_path / "new" / "in" / "grey.png", (8, 90))
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "new" / "clear.png")  # on white, as in training
    for ending in ("parquet", "csv"):
        assert cli("encode", run, "new", "--out", f"codes.{ending}")[0] == 0
    names = ["clear.png", "in/grey.png", "large ä.jpg"]
    assert parquet.read_table(tmp_path / "codes.parquet")["image"].to_pylist() == names
    assert csv.read_csv(tmp_path / "codes.csv")["image"].to_pylist() == names
    assert cli("reconstruct", run, "new", "--out", "pairs.png")[0] == 0
    with Image.open(tmp_path / "pairs.png") as sheet:
        clear = np.asarray(sheet)[:: 96 // 16, :: 96 // 16][2:18, 2:18]
    assert (clear == 255).all()
    assert cli("reconstruct", run, "new", "--out", "one by one")[0] == 0
    assert len(list((tmp_path / "one by one").iterdir())) == 3
    shutil.make_archive("new", "zip", "new")
    assert cli("encode", run, "new.zip", "--out", "codes.npz")[0] == 0
    assert np.load(tmp_path / "codes.npz")["names"].tolist() == names
    (tmp_path / "new" / "broken.png").write_bytes(b"")
    shutil.make_archive("broken", "zip", "new")
    assert "broken.png (empty file)" in one_line(cli("encode", run, "broken.zip", "--out", "no.csv")[2])
    code, _, err = cli("encode", run, "new", "--out", "none.csv", "--strict")
    assert code == 1
    assert "broken.png" in one_line(err)


def test_the_size_may_be_set_and_the_same_command_goes_on(cli: Typed, tmp_path: Path) -> None:
    root = put_many(tmp_path / "own", 31, (40, 30))  # fewer than a batch
    overrides = {"data.size": 24, "training.steps": 20}
    train_small(tmp_path / "run", overrides, name="folder", data=root)
    assert Run.open(tmp_path / "run").recipe.data["size"] == 24
    words = [*TINY, "--set", "data.size=24", "--data", "own", "--run", "run"]
    assert "is done already" in cli("train", "folder", *words)[1]


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_of_one_picture_or_two(tmp_path: Path, count: int) -> None:
    root = put_many(tmp_path / "own", count)
    run = train_small(tmp_path / "run", {"training.steps": 20}, name="folder", data=root)
    assert run.is_finished
    assert len(run.history["loss"]) == 20


@pytest.mark.parametrize(
    ("size", "channels"), [("8", [32]), ("[20,33]", [32, 64]), ("28", [32, 64]), ("256", [32, 64, 128, 256, 256, 256])]
)
def test_network_latents_and_weight_suit_the_size(cli: Typed, tmp_path: Path, size: str, channels: list[int]) -> None:
    put_many(tmp_path / "own", 100, (300, 300))
    code, out, err = cli("train", "folder", "--data", "own", "--set", f"data.size={size}", "--dry-run", "--json")
    assert (code, err) == (0, "")
    recipe = json.loads(out)["recipe"]
    assert recipe["network"]["channels"] == channels
    assert 2 <= recipe["network"]["latent_dim"] <= 12
    assert recipe["training"]["epochs"] == 1000
    sides = json.loads(size)
    height, width = sides if isinstance(sides, list) else (sides, sides)
    assert recipe["objective"]["beta"] == pytest.approx(height * width / 64**2, rel=0.05)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "folder"], 1, "folder needs your pictures: vaelab train folder --data PATH"),
        (["train", "folder", "--data", "gone"], 1, "gone: no such file or folder"),
        (["train", "folder", "--data", "empty"], 1, "empty: no pictures here"),
        (["train", "folder", "--data", "half.zip"], 1, "half.zip is damaged: not a zip, or cut off"),
        (["train", "folder", "--data", "page.zip"], 1, "page.zip is damaged: a web page"),
        (["train", "folder", "--data", "own", "--set", "data.size=4"], 2, "greater than or equal to 8"),
        (["train", "folder", "--data", "own", "--set", "data.size=5000"], 2, "less than or equal to 1024"),
        (["train", "folder", "--data", "own", "--set", "data.fit=stretch"], 2, "Valid: crop, pad"),
        (["train", "folder", "--data", "own", "--set", "data.crop=center128"], 2, "celeba has it"),
        (["data", "check", "empty"], 1, "no data set that vaelab can check here, and no pictures"),
        (["data", "check", "half.zip"], 1, "half.zip is damaged: not a zip, or cut off"),
        (["data", "cache", "empty"], 1, "empty: no pictures here"),
        (["data", "cache", "gone"], 1, "gone: no such file or folder"),
        (["data", "get", "folder"], 1, "vaelab train folder --data PATH"),
    ],
)  # fmt: skip
def test_wrong_usage_gets_one_line(cli: Typed, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    (tmp_path / "empty").mkdir()
    put_many(tmp_path / "own", 3)
    (tmp_path / "half.zip").write_bytes(b"PK\3\4half")
    (tmp_path / "page.zip").write_bytes(b"<!DOCTYPE html>")
    found, _, err = cli(*words)
    assert found == code
    assert says in one_line(err)
