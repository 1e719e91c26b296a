"""Picture files in folders, zips and parquet files; names in printable form."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from vaelab.data.containers import ImageRef, UnavailablePicture, UnreadablePicture, open_zip, read_item, shown
from vaelab.system.files import DamagedFile


def refused(item: ImageRef, **options: int) -> str:
    with pytest.raises(UnreadablePicture) as raised:
        read_item(item, **options)
    return str(raised.value)


def test_files_and_links(tmp_path: Path, wording: Callable[[object], None]) -> None:
    folder = tmp_path / "holiday.zip"  # a folder despite its name
    folder.mkdir()
    (folder / "a.png").write_bytes(b"content")
    (folder / "b.png").symlink_to("a.png")
    assert read_item((str(folder), "a.png")) == read_item((str(folder), "b.png")) == b"content"
    (folder / "nowhere.png").symlink_to("none.png")
    (folder / "self.png").symlink_to("self.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    for name in ("nowhere", "self", "folder", "pipe", "zero", "gone"):
        wording(refused((str(folder), f"{name}.png")))
    refused((str(folder), "a.png"), max_bytes=6)


def test_entries_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "Own.ZIP"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("b/ä 1.png", b"first" * 100)
        written.writestr("../../evil.png", b"outside")
    assert read_item((str(path), "b/ä 1.png")) == b"first" * 100
    assert read_item((str(path), "../../evil.png")) == b"outside"
    assert not (tmp_path.parent / "evil.png").exists()
    refused((str(path), "gone.png"))
    with zipfile.ZipFile(path, "w") as written:  # another zip of that name
        written.writestr("c.png", b"second, and longer")
    assert read_item((str(path), "c.png")) == b"second, and longer"
    refused((str(path), "c.png"), max_bytes=9)


def test_damaged_and_encrypted_entries(tmp_path: Path) -> None:
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("a.png", b"some content")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"some content", b"same content"))
    assert "Bad CRC-32" in refused((str(path), "a.png"))
    local, central = whole.index(b"PK\3\4"), whole.index(b"PK\1\2")
    encrypted = bytearray(whole)
    encrypted[local + 6] |= 1
    encrypted[central + 8] |= 1
    path.write_bytes(bytes(encrypted) + b"")
    os.utime(path, (1, 1))
    assert "encrypted" in refused((str(path), "a.png"))
    unknown = bytearray(whole)
    unknown[local + 8] = unknown[central + 10] = 99
    path.write_bytes(bytes(unknown))
    os.utime(path, (2, 2))
    assert "compression" in refused((str(path), "a.png"))


def test_files_that_are_not_a_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Callable[[object], None]
) -> None:
    path = tmp_path / "img.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("a.png", bytes(5000))
    whole = path.read_bytes()
    for content in (b"\n <!DOCTYPE html><html><title>Google Drive - Quota exceeded", whole[:-100], b""):
        path.write_bytes(content)
        with pytest.raises(DamagedFile) as raised:
            open_zip(str(path))
        assert raised.value.path == path
        wording(raised.value)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    path.write_bytes(whole)
    with pytest.raises(UnavailablePicture, match="Permission denied"):
        open_zip(str(path))


def test_rows_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "train-0.parquet"
    rows = [{"bytes": f"row {i}".encode(), "path": f"{i}.jpg"} for i in range(10)]
    rows[7] = {"bytes": None, "path": "7.jpg"}
    parquet.write_table(pyarrow.table({"image": rows, "Smiling": [True] * 10}), path, row_group_size=3)
    order = [9, 0, 3, 2, 8, 5, 4, 6, 1]
    assert [read_item((str(path), str(i))) for i in order] == [f"row {i}".encode() for i in order]
    refused((str(path), "7"))
    refused((str(path), "10"))
    assert shown((str(path), "3")) == "train-0.parquet row 3"
    plain = tmp_path / "plain.parquet"
    parquet.write_table(pyarrow.table({"image": [b"one", b"two"]}), plain)
    assert read_item((str(plain), "1")) == b"two"
    path.write_bytes(path.read_bytes()[:100])
    refused((str(path), "0"))


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("a b/ä 猫 🐈.png", "a b/ä 猫 🐈.png"),
        ("two\nlines\t.png", "two\\nlines\\t.png"),
        ("\x1b[2Jclear.png", "\\x1b[2Jclear.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\udce9.png"),
        ("line\u2028end.png", "line\\u2028end.png"),
    ],
)
def test_names_are_printed_on_one_line(name: str, printed: str) -> None:
    assert shown(("folder", name)) == printed
    assert printed.encode()
