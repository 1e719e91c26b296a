"""Exports never replace files that are not their own."""

import json
from pathlib import Path

import pytest

from vaelab.exporters.target import check_folder, make_manifest, write_folder


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def files_of(**texts: str) -> dict[str, bytes]:
    files = {f"{name}.txt": text.encode() for name, text in texts.items()}
    return {**files, "manifest.json": make_manifest("web", "digits", {}, files)}


def test_only_files_of_a_earlier_export_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "site"
    check_folder(path, overwrite=False)
    write_folder(path, files_of(a="1", b="1"))
    assert names_below(tmp_path) == {f"new/site/{name}" for name in ("a.txt", "b.txt", "manifest.json")}
    with pytest.raises(FileExistsError):
        check_folder(path, overwrite=False)
    (path / "mine.txt").write_text("mine")
    check_folder(path, overwrite=True)
    write_folder(path, files_of(a="2", c="2"))
    assert {name: (path / name).read_text() for name in ("a.txt", "c.txt", "mine.txt")} == {
        "a.txt": "2",
        "c.txt": "2",
        "mine.txt": "mine",
    }
    assert not (path / "b.txt").exists()
    with pytest.raises(FileExistsError):
        write_folder(path, files_of(a="3", mine="3"))
    assert ((path / "a.txt").read_text(), (path / "mine.txt").read_text()) == ("2", "mine")


def test_a_folder_of_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=False)
    before = (tmp_path / "empty").stat().st_ino
    write_folder(tmp_path / "empty", files_of(a="1"))
    assert (tmp_path / "empty").stat().st_ino == before  # it may be the working directory
    assert names_below(tmp_path / "empty") == {"a.txt", "manifest.json"}
    others = tmp_path / "others"
    others.mkdir()
    (tmp_path / "precious.txt").write_text("mine")
    hostile = {"vaelab": "1", "kind": "web", "files": {"../precious.txt": {}}}
    for manifest in ("{}", "[1]", "no json", json.dumps(hostile)):
        (others / "manifest.json").write_text(manifest)
        with pytest.raises(FileExistsError):
            check_folder(others, overwrite=True)
    with pytest.raises(FileExistsError):
        check_folder(tmp_path / "precious.txt", overwrite=True)
