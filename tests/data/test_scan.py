"""Finding pictures below a folder or in a zip: each one once, among any other files."""

import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelab.data.scan import Entry, Scan, digest, hash_name, holds_picture, scan
from vaelab.system.files import DamagedFile


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode("utf-8", "surrogateescape"))


def names(found: Scan) -> list[str]:
    return [entry.item[1] for entry in found.entries]


def test_pictures_are_sorted_by_name(tmp_path: Path) -> None:
    put(tmp_path, "b.PNG", "a.jpeg", "c/d/e.webp", "c/z.gif", "x.tif", "y.Tiff", "b.bmp", "j.jfif", "png", "notes.txt")
    put(tmp_path, "c.d/png", "movie.mp4", "a.png.bak", "archive.zip")
    found = scan(tmp_path)
    assert names(found) == ["a.jpeg", "b.PNG", "b.bmp", "c/d/e.webp", "c/z.gif", "j.jfif", "x.tif", "y.Tiff"]
    assert sorted(found.others) == ["a.png.bak", "archive.zip", "c.d/png", "movie.mp4", "notes.txt", "png"]
    assert [entry.folder for entry in found.entries][3:5] == ["c/d", "c"]
    first = found.entries[0]
    state = (tmp_path / "a.jpeg").stat()
    assert first == Entry((str(tmp_path), "a.jpeg"), state.st_size, state.st_mtime_ns)


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.png",
        "._a.png",
        ".hidden/b.png",
        "__MACOSX/c.png",
        "@eaDir/a.png/THUMB.jpg",
        "Thumbs.db",
        ".DS_Store",
    )
    found = scan(tmp_path)
    assert names(found) == ["a.png"]
    assert found.others == []
    assert found.hidden == [".DS_Store", "._a.png", ".hidden/", "@eaDir/", "Thumbs.db", "__MACOSX/"]
    assert [entry.path for entry in found.hidden_entries] == [".hidden/b.png"]
    inner = tmp_path / ".cache" / "mine"
    put(inner, "b.png")
    assert names(scan(inner)) == ["b.png"]  # a hidden folder that is given is searched


STRANGE = [
    "with space.png",
    "ümläut/é.png",
    "猫/🐈.png",
    "two\nlines.png",
    "\x1b[2J.png",
    "quote'\".png",
    "-n.png",
    "#%?.png",
]


@pytest.mark.parametrize("name", [*STRANGE, os.fsdecode(b"caf\xe9/\xff\xfe.png")])
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    try:
        put(tmp_path, name)
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    found = scan(tmp_path)
    assert names(found) == [name]
    assert len(digest(found.entries)) == 64
    assert 0 <= hash_name(name) < 1 << 64


def test_links_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "m/one.png", "z/two.png")
    put(tmp_path, "outside/three.png", "outside/deep/four.png")
    (root / "a").symlink_to("z")  # sorts first, but the folder keeps its own name
    (root / "b.png").symlink_to("m/one.png")
    (root / "loop").symlink_to("..")
    (root / "m" / "up").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out2").symlink_to(tmp_path / "outside" / "deep")
    found = scan(root)
    assert [name for name in names(found) if not name.startswith("loop")] == ["b.png", "m/one.png", "z/two.png"]
    assert sorted(name for name in names(found) if name.startswith("loop")) == [
        "loop/outside/deep/four.png",
        "loop/outside/three.png",
    ]
    assert set(found.repeated) >= {"a", "m/up", "out", "out2"}
    assert found.closed == []


def test_broken_links_and_pipes(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to("none.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    put(tmp_path, "folder.png/b.png")
    found = scan(tmp_path)  # reading them reports the problem
    assert names(found) == ["a.png", "folder.png/b.png", "gone.png", "pipe.png", "self.png"]
    assert sorted(found.others) == ["pipe", "self"]


def test_folders_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png", "shut/b.png", "open/c.png")
    opened = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).rstrip("/").endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(os, "scandir", refuse)  # permissions do not bind root
    found = scan(tmp_path)
    assert names(found) == ["a.png", "open/c.png"]
    assert found.closed == [("shut", "Permission denied")]


def test_one_picture_no_picture_and_no_such_folder(tmp_path: Path) -> None:
    put(tmp_path, "own/a.png", "own/b.png", "none/notes.txt")
    assert names(scan(tmp_path / "own" / "a.png")) == ["a.png"]
    assert scan(tmp_path / "none").entries == []
    assert (holds_picture(tmp_path / "none"), holds_picture(tmp_path / "own")) == (False, True)
    for use in (scan, holds_picture):
        with pytest.raises(FileNotFoundError):
            use(tmp_path / "gone")


def test_zips(tmp_path: Path) -> None:
    path = tmp_path / "Own.Zip"
    entries = {
        "photos/": "",
        "photos/b 1.png": "b",
        "photos/a.jpg": "a",
        "photos/notes.txt": "",
        "__MACOSX/photos/._a.jpg": "",
        "photos/.hidden/c.png": "",
        "../../evil.png": "e",
        "/etc/evil.png": "f",
        "windows\\d.png": "d",
    }
    with zipfile.ZipFile(path, "w") as written:
        for name, content in entries.items():
            written.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            written.writestr("photos/a.jpg", "again")
    found = scan(path)
    expected = ["../../evil.png", "/etc/evil.png", "photos/a.jpg", "photos/b 1.png", "windows\\d.png"]
    assert names(found) == expected
    assert found.entries[2].size == len("again")
    assert [entry.folder for entry in found.entries] == ["../..", "/etc", "photos", "photos", "windows"]
    assert found.others == ["photos/notes.txt"]
    assert found.hidden == ["__MACOSX/", "photos/.hidden/"]
    assert [entry.path for entry in found.hidden_entries] == ["photos/.hidden/c.png"]
    assert all(entry.item[0] == str(path) for entry in found.entries)
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_zip_and_a_folder_called_zip(tmp_path: Path) -> None:
    (tmp_path / "half.zip").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(DamagedFile) as raised:
        scan(tmp_path / "half.zip")
    assert raised.value.path == tmp_path / "half.zip"
    put(tmp_path, "folder.zip/a.png")
    assert names(scan(tmp_path / "folder.zip")) == ["a.png"]


def test_the_digest_changes_with_every_picture(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    seen = {digest(scan(tmp_path).entries)}
    put(tmp_path, "notes.txt")
    assert digest(scan(tmp_path).entries) in seen
    for change in (
        lambda: put(tmp_path, "c.png"),
        lambda: (tmp_path / "c.png").rename(tmp_path / "d.png"),
        lambda: (tmp_path / "d.png").write_bytes(b"more content"),
        lambda: os.utime(tmp_path / "d.png", ns=(1, 1)),
        lambda: (tmp_path / "d.png").unlink(),
    ):
        change()
        found = digest(scan(tmp_path).entries)
        assert (found in seen) == (len(seen) == 5)  # without the picture the digest is the first one again
        seen.add(found)


def test_composed_and_decomposed_accents_are_one_name(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é/café.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert hash_name(composed) == hash_name(decomposed)
    first, second = tmp_path / "1", tmp_path / "2"
    put(first, composed, "z.png", "a.png")
    put(second, decomposed, "z.png", "a.png")
    assert [name[0] for name in names(scan(first))] == ["a", "z", "é"]
    assert [unicodedata.normalize("NFC", name) for name in names(scan(second))] == names(scan(first))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=30, unique=True))
def test_the_hash_depends_on_the_name_only(texts: list[str]) -> None:
    forms = {unicodedata.normalize("NFC", text) for text in texts}
    assert len({hash_name(text) for text in texts}) == len(forms)


def test_the_hash_is_the_same_in_every_version() -> None:
    assert (hash_name("a.png"), hash_name("train/ä 1.jpg")) == (0xE203797DE73BF656, 3533691329642192046)
