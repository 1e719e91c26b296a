"""The user's own pictures: loading, checking and caching them."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import put_picture, put_pictures
from typed import Typed
from wording import Wording

from vaelab.data.datasets import UnusableFile, folder
from vaelab.data.datasets.folder import load
from vaelab.data.images import Images
from vaelab.data.pictures import encode_png
from vaelab.data.scan import hash_name
from vaelab.system.errors import InputError
from vaelab.system.paths import cache_dir

NO_FOLDERS = {"train": "", "valid": 0, "test": ""}
NO_TABLE = {"table": "", "file_name": "", "label": ""}
"""Resolved options if no folder is a split."""
HELD_OUT = (1 << 64) // 10
"""Pictures whose names hash to less are held out."""


def grey_values(images: Images) -> list[int]:
    return np.asarray(images.pixels)[:, 0, 0, 0].tolist()


def load_both(root: Path, **options: Any) -> tuple[Images, Images]:
    return load(root, "train", **options), load(root, "test", **options)


@contextmanager
def destroyed(root: Path) -> Iterator[None]:
    """Within this context the pictures have another content, but the same size and time."""
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.png")}
    for path, (content, time) in kept.items():
        path.write_bytes(bytes(len(content)))
        os.utime(path, ns=(time, time))
    yield
    for path, (content, time) in kept.items():
        path.write_bytes(content)
        os.utime(path, ns=(time, time))


# -- splits and classes -----------------------------------------------------------------------------------------------


def test_without_split_folders_each_picture_is_in_one_split(tmp_path: Path) -> None:
    train, test = load_both(put_pictures(tmp_path / "own", 60))
    assert sorted(grey_values(train) + grey_values(test)) == list(range(60))
    assert 1 <= len(test) <= 15
    assert any(f"{len(test)} of 60" in note for note in train.notes)
    assert train.resolved.items() >= NO_FOLDERS.items()
    assert train.source == test.source == str(tmp_path / "own")


def test_split_folders_are_recorded(tmp_path: Path, wording: Wording) -> None:
    for i, name in enumerate(["train/a", "train/b", "val/c", "test/d", "test/e", "loose"]):
        put_picture(tmp_path / "own" / "download" / f"{name}.png", colour=i)
    train, test = load_both(tmp_path / "own")
    assert (grey_values(train), grey_values(test)) == ([0, 1], [2])
    assert (train.split_name, test.split_name) == ("", "download/val")
    assert train.resolved.items() >= {"train": "download/train", "valid": "download/val", "test": ""}.items()
    for message in (*train.notes, *train.warnings):
        wording(message)


@pytest.mark.parametrize("is_zip", [False, True], ids=["folder", "zip"])
def test_subfolders_are_classes(tmp_path: Path, is_zip: bool) -> None:
    root = tmp_path / "own"
    for i, name in enumerate(["b 猫/1", "b 猫/2", "a\n/1", "a\n/deep/2", "loose"]):
        put_picture(root / f"{name}.png", colour=i // 2)
    images = load_both(Path(shutil.make_archive(str(root), "zip", root)) if is_zip else root)
    for part in images:
        assert part.label_names == ("a\\n", "b 猫")
        assert part.labels is not None
        np.testing.assert_array_equal(part.labels, 1 - np.array(grey_values(part)))
    assert sum(map(len, images)) == 4


def test_a_class_name_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    try:
        for name in (b"caf\xe9/1.png", b"caf\xe9/2.png", b"tea/1.png", b"tea/2.png"):
            put_picture(tmp_path / "own" / os.fsdecode(name))
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    assert load(tmp_path / "own", "train").label_names == ("caf\\udce9", "tea")


def test_hidden_folders_beside_classes(cli: Typed, tmp_path: Path) -> None:
    for name in ("java", "c", ".net", ".thumbnails"):
        put_pictures(tmp_path / "own" / name, 8)
    put_picture(tmp_path / "own" / "java" / ".secret" / "deep" / "a.png")
    images = load(tmp_path / "own", "train")
    assert images.label_names == (".net", "c", "java")
    assert any(".net/" in note for note in images.notes)
    assert any("java/.secret/ (1)" in note for note in images.notes)
    _, out, _ = cli("data", "check", "own")
    assert ".thumbnails/: ok, hidden" in out
    assert "24 of 24 images: ok" in out
    assert load(Path(shutil.make_archive("zipped", "zip", tmp_path / "own")), "train").label_names == images.label_names


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
def test_automatic_size(tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]) -> None:
    for i, size in enumerate(sizes * 2):
        put_picture(tmp_path / "own" / f"{i}.png", size)
    train = load(tmp_path / "own", "train")
    assert train.image_shape == (1, *shape)
    assert train.resolved == {"size": list(shape), "channels": "grey", "background": "white", **NO_FOLDERS, **NO_TABLE}


def test_given_options_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "own"
    for name in "abcd":
        put_picture(root / f"{name}.png", (40, 20), (200, 100, 50))
    assert load(root, "train").image_shape == (3, 20, 40)
    assert load(root, "train", size=24).image_shape == (3, 24, 24)
    assert load(root, "train", size=24).resolved == {"channels": "rgb", "background": "white", **NO_FOLDERS, **NO_TABLE}
    assert load(root, "train", size=[20, 33], channels="grey").image_shape == (1, 20, 33)
    assert load(root, "train", size=[20, 33], channels="grey", background="black").resolved == {
        **NO_FOLDERS,
        **NO_TABLE,
    }
    padded = np.asarray(load(root, "train", size=16, fit="pad", background="black").pixels)
    assert padded[0, :, 8, 0].tolist() == [0] * 4 + [200] * 8 + [0] * 4


def test_one_picture_in_colour_makes_all_of_them_colour(tmp_path: Path) -> None:
    put_pictures(tmp_path / "own", 9)
    assert load(tmp_path / "own", "train").image_shape == (1, 28, 28)
    put_picture(tmp_path / "own" / "z.jpg", colour=(200, 30, 30))
    assert load(tmp_path / "own", "train").image_shape == (3, 28, 28)


def test_pictures_of_every_kind_become_one_size(tmp_path: Path) -> None:
    root = tmp_path / "own"
    colour = (200, 100, 50)
    for i, name in enumerate(["a.png", "b.JPG", "c.webp", "d.tiff", "e.bmp", "f.gif"]):
        put_picture(root / name, (90 + 30 * i, 120), colour)
    Image.new("RGBA", (100, 100), (*colour, 255)).save(root / "g.png")
    Image.new("CMYK", (100, 100), (55, 155, 205, 0)).save(root / "h.jpg")
    Image.new("P", (100, 100)).save(root / "i.png")
    Image.fromarray(np.full((70, 80), 40_000, np.uint16)).save(root / "j.png")
    Image.new("1", (100, 100), 1).save(root / "k.png")
    Image.new("LA", (100, 100), (0, 0)).save(root / "l.png")
    train, test = load_both(root)
    assert train.image_shape == test.image_shape == (3, 64, 64)
    values = np.concatenate([np.asarray(part.pixels) for part in (train, test)])
    assert len(values) == 12
    assert np.ptp(values, axis=(1, 2)).max() <= 3  # each has one colour
    coloured = [value for value in values[:, 32, 32].astype(int) if np.abs(value - colour).max() <= 4]
    assert len(coloured) == 8


# -- pictures that cannot be read -------------------------------------------------------------------------------------

BROKEN = ("bomb.png", "empty.png", "half.png", "nowhere.png", "pipe.png", "text.jpg")


def put_messy(root: Path) -> Path:
    """Write nine good pictures, six that cannot be read, and other things."""
    put_pictures(root, 9)
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


def test_unreadable_pictures_are_left_out_with_a_count(tmp_path: Path, wording: Wording) -> None:
    train, test = load_both(put_messy(tmp_path / "own"))
    assert sorted(grey_values(train) + grey_values(test)) == list(range(9))
    assert sorted(train.selection["left_out"] + test.selection["left_out"]) == list(BROKEN)
    for note in train.notes:
        wording(note)


def test_strict_refuses_unreadable_pictures(tmp_path: Path, wording: Wording) -> None:
    root = put_messy(tmp_path / "own")
    for _ in range(2):  # without a cache entry, then with one
        with pytest.raises(UnusableFile) as caught:
            load(root, "train", strict=True)
        assert caught.value.subject == root
        wording(caught.value)
        load(root, "train")


def test_folders_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    opened = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).rstrip("/").endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(os, "scandir", refuse)
    put_pictures(tmp_path / "own", 9)
    put_picture(tmp_path / "own" / "shut" / "a.png")
    assert any("shut: Permission denied" in note for note in load(tmp_path / "own", "train").notes)
    for place, options in ((tmp_path / "own", {"strict": True}), (tmp_path / "own" / "shut", {})):
        with pytest.raises(UnusableFile) as caught:
            load(place, "train", **options)
        assert caught.value.subject == place
        wording(caught.value)


@pytest.mark.parametrize("broken", [{0}, {3}, {0, 1, 2}, {1, 2, 3}, {0, 2, 4}, {0, 1, 2, 3}])
def test_of_a_few_pictures_each_split_has_a_readable_one(tmp_path: Path, broken: set[int]) -> None:
    for i in range(5):
        path = put_picture(tmp_path / "own" / f"{i}.png", colour=40 * i)
        if i in broken:
            path.write_bytes(b"")
    train, test = load_both(tmp_path / "own")
    assert {value // 40 for value in grey_values(train) + grey_values(test)} == set(range(5)) - broken
    assert len(train) + len(test) == max(2, 5 - len(broken))  # a single picture is in both


@pytest.mark.parametrize(
    "make",
    [
        lambda root: (root / "own").mkdir(),
        lambda root: put_picture(root / "own" / "a.png").write_bytes(b""),
        lambda root: [(root / "own").mkdir(), (root / "own" / "notes.txt").touch()],
        lambda root: [(root / "own").mkdir(), (root / "own" / "photos.zip").touch()],
        lambda root: [(root / "own").mkdir(), put_picture(root / "own" / ".x" / "a.png")],
        lambda root: (root / "own").write_bytes(b""),
    ],
    ids=["nothing", "unreadable", "text", "zip", "hidden", "file"],
)
def test_places_without_pictures(make: Any, tmp_path: Path, wording: Wording) -> None:
    make(tmp_path)
    with pytest.raises(UnusableFile) as caught:
        load(tmp_path / "own", "train")
    assert caught.value.subject == tmp_path / "own"
    wording(caught.value)


def test_arrays_in_place_of_pictures(tmp_path: Path, wording: Wording) -> None:
    np.save(tmp_path / "own.npy", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UnusableFile) as caught:
        load(tmp_path / "own.npy", "train")
    assert caught.value.subject == tmp_path / "own.npy"
    wording(caught.value)
    with pytest.raises(InputError) as caught:
        load(None, "train")
    assert caught.value.subject == "data_dir"


@pytest.mark.parametrize("count", [1, 2, 3, 31])
def test_few_pictures(tmp_path: Path, count: int) -> None:
    train, test = load_both(put_pictures(tmp_path / "own", count))
    assert sorted({*grey_values(train), *grey_values(test)}) == list(range(count))
    assert len(train) + len(test) == max(count, 2)


def test_a_single_picture_is_a_data_set(tmp_path: Path) -> None:
    path = put_picture(tmp_path / "only one.png", colour=7)
    assert [grey_values(part) for part in load_both(path)] == [[7], [7]]


def test_zips_are_not_unpacked(tmp_path: Path) -> None:
    content = put_picture(tmp_path / "a.png", colour=7).read_bytes()
    path = tmp_path / "Own.ZIP"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(["../../evil.png", "/tmp/evil.png", "tmp/a 1.png", "tmp/🐈.png", "tmp/x.txt"]):
            archive.writestr(name, content if i < 4 else "text")
        archive.writestr("tmp/broken.png", b"broken")
    before = sorted(tmp_path.rglob("*"))
    train, test = load_both(path)
    assert grey_values(train) + grey_values(test) == [7] * 4
    assert [item for item in sorted(tmp_path.rglob("*")) if "cache" not in item.parts] == before
    assert not Path("/tmp/evil.png").exists()


# -- the cache --------------------------------------------------------------------------------------------------------


def test_a_later_load_reads_no_picture_and_lists_the_files_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = put_pictures(tmp_path / "own", 30)
    before = load_both(root)
    opened, listed = os.scandir, list[str]()
    with destroyed(root):
        monkeypatch.setattr(os, "scandir", lambda path: [listed.append(str(path)), opened(path)][1])
        again = load_both(root)
        assert [part.digest for part in again] == [part.digest for part in before]
        assert [part.resolved for part in again] == [part.resolved for part in before]
        assert sum(path.startswith(str(root)) for path in listed) == 1
        load(root, "test")  # the same split again is a load of its own
        assert sum(path.startswith(str(root)) for path in listed) == 2
        monkeypatch.undo()


def test_a_change_makes_another_cache_entry_of_its_split_alone(tmp_path: Path, cache: Path) -> None:
    def entries() -> set[str]:
        return {path.name for path in cache.iterdir() if path.is_dir()}

    root = put_pictures(tmp_path / "own", 30)
    options: dict[str, Any] = {"size": 28, "channels": "grey"}
    train, test = load_both(root, **options)
    first = entries()
    assert len(first) == 2
    assert hash_name("zz.png") >= HELD_OUT
    put_picture(root / "zz.png", colour=255)
    more = load_both(root, **options)
    assert grey_values(more[0]) == [*grey_values(train), 255]
    assert more[1].digest == test.digest
    assert len(entries() - first) == 1
    put_picture(root / "zz.png", colour=254)
    os.utime(root / "zz.png", ns=(10**18, 10**18))
    assert grey_values(load(root, "train", **options))[-1] == 254
    assert load(root, "train", size=16).image_shape == (1, 16, 16)
    assert load(root, "train", size=16, fit="pad").digest == load(root, "train", size=16).digest  # square pictures
    assert len(entries() - first) == 4


def test_copies_of_the_pictures_are_the_same_data(tmp_path: Path) -> None:
    first = put_pictures(tmp_path / "one", 12)
    shutil.copytree(first, tmp_path / "two")
    digests = [[part.digest for part in load_both(place)] for place in (first, tmp_path / "two")]
    assert digests[0] == digests[1]


# -- the command line -------------------------------------------------------------------------------------------------


def test_check_lists_problems(cli: Typed, tmp_path: Path, wording: Wording) -> None:
    put_messy(tmp_path / "own")
    code, out, err = cli("data", "check", "own")
    assert (code, err) == (1, "")
    wording(out)
    for name in BROKEN:
        (tmp_path / "own" / name).unlink()
    code, out, _ = cli("data", "check", "own", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert (found["notes"], found["warnings"]) == folder.describe_layout(tmp_path / "own")
    assert found["files"][-1] == {"file": "9 of 9 images", "verdict": "ok"}


def test_check_escapes_names(cli: Typed, tmp_path: Path) -> None:
    put_pictures(tmp_path / "own", 3)
    for name in ("two\nlines.png", "\x1b[2J.png", os.fsdecode(b"\xff.png"), "notes.\x07", "🐈.png"):
        try:
            (tmp_path / "own" / name).write_bytes(b"")
        except OSError as error:
            pytest.skip(f"this file system refuses the name: {error}")
    code, out, _ = cli("data", "check", "own")
    assert code == 1
    names = {line.strip().split(": ")[0] for line in out.splitlines()}
    assert names >= {"two\\nlines.png", "\\x1b[2J.png", "\\udcff.png", "🐈.png"}
    assert ".\\x07" in out
    assert not set(out) & {"\x1b", "\x07"}


def test_cache_reports_what_a_training_would_load(cli: Typed, tmp_path: Path) -> None:
    put_messy(tmp_path / "own")
    code, out, err = cli("data", "cache", "own", "--set", "data.size=16")
    assert (code, err) == (0, "")
    train, test = load_both(tmp_path / "own", size=16)
    lines = out.splitlines()
    assert (len(train), len(test)) == (8, 1)
    assert lines[:2] == ["train: 8 images, 16×16 grey", "test: 1 image, 16×16 grey"]
    assert all(out.count(note) == 1 for note in (*train.notes, *test.notes))
    entries = sorted(path.name for path in (cache_dir() / "images").iterdir())
    assert cli("data", "cache", "own", "--set", "data.size=16")[0] == 0
    assert sorted(path.name for path in (cache_dir() / "images").iterdir()) == entries
    assert cli("data", "cache", "own", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("train folder", 1),
        ("train folder --data half.zip", 1),
        ("train folder --data page.zip", 1),
        ("train folder --data own --set data.size=4", 2),
        ("train folder --data own --set data.size=5000", 2),
        ("train folder --data own --set data.fit=stretch", 2),
        ("train folder --data own --set data.crop=center128", 2),
        ("train folder --data own --set data.range=[9,3]", 2),
        ("data check own --set data.test=tst", 2),
        ("data check empty", 1),
        ("data check half.zip", 1),
        ("data cache gone", 1),
        ("data get folder", 1),
    ],
    ids=str,
)
def test_wrong_usage_gets_one_line(cli: Typed, tmp_path: Path, command: str, code: int, wording: Wording) -> None:
    (tmp_path / "empty").mkdir()
    put_pictures(tmp_path / "own", 3)
    (tmp_path / "half.zip").write_bytes(b"PK\3\4half")
    (tmp_path / "page.zip").write_bytes(b"<!DOCTYPE html>")
    found, _, err = cli(*command.split())
    assert found == code
    assert err.count("\n") == 1
    wording(err)
