"""The runtime of exported pages: a given folder, the cache, npm, or the CDN."""

import hashlib
import sys
import tarfile
from pathlib import Path

import pytest

from vaelab.exporters.onnxruntime_web import MODULE, WASM, find_runtime
from vaelab.system.errors import UsageError

FILES = {MODULE: b"export const env = {};", WASM: b"\0asm" + bytes(range(200))}
"""Stands for onnxruntime-web."""
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and no npm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def make_npm(tmp_path: Path, command: str) -> None:
    """Put an npm on the PATH."""
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{command}\n")
    npm.chmod(0o755)


def make_package(path: Path, files: dict[str, bytes]) -> None:
    """A package as npm packs it."""
    with tarfile.open(path, "w:gz") as package:
        for name, content in files.items():
            source = path.with_name("packed")
            source.write_bytes(content)
            package.add(source, f"package/dist/{name}")


def test_a_given_folder_must_hold_exactly_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    assert find_runtime(folder, SHA256).files == FILES
    for break_it in (lambda: (folder / WASM).write_bytes(b"another"), (folder / MODULE).unlink):
        break_it()
        with pytest.raises(UsageError) as error:
            find_runtime(folder, SHA256)
        assert error.value.subject == "runtime"
    assert error.value.value == folder / MODULE


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for npm")
def test_npm_fetches_the_runtime_once(tmp_path: Path) -> None:
    make_package(tmp_path / "package.tgz", FILES)
    make_npm(tmp_path, f'[ "$1 $2" = "pack onnxruntime-web@1.30.0" ] && /bin/cp {tmp_path}/package.tgz ort.tgz')
    found = find_runtime(sha256=SHA256)
    assert (found.files, "npm" in found.origin) == (FILES, True)
    (tmp_path / "bin" / "npm").unlink()
    cached = find_runtime(sha256=SHA256)
    assert cached.files == FILES
    assert str(tmp_path / "cache") in cached.origin
    next((tmp_path / "cache").rglob(WASM)).write_bytes(b"damaged")
    assert find_runtime(sha256=SHA256).files is None


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for npm")
@pytest.mark.parametrize("supplied", [None, {MODULE: b"evil", WASM: b"evil"}, {"other.js": b""}])
def test_a_package_with_other_files_is_not_used(tmp_path: Path, supplied: dict[str, bytes] | None) -> None:
    if supplied is not None:
        make_package(tmp_path / "package.tgz", supplied)
    make_npm(tmp_path, "exit 1" if supplied is None else f"/bin/cp {tmp_path}/package.tgz ort.tgz")
    found = find_runtime(sha256=SHA256)
    assert found.files is None
    assert "https://cdn" in found.origin
    assert not list((tmp_path / "cache").rglob("*"))
