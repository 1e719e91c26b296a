"""Where an export goes: a path that is free, or holds a former export; nothing else is ever overwritten."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from vaelab.system.files import NAME_BYTES, fit_name, write_atomic
from vaelab.system.partials import PARTIAL_ENDING, partial_folder

MANIFEST, FORMAT = "manifest.json", 1
START = 4096
"""Bytes of a page in which its mark is."""


def make_manifest(kind: str, run: str, contents: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """What an export says of itself: what it is, and each of its files with size and digest."""
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    about = {"format": FORMAT, "vaelab": version("vaelab"), "kind": kind, "run": run}
    return json.dumps({**about, **contents, "files": listed}, ensure_ascii=False, allow_nan=False).encode()


def check_folder(path: Path, *, overwrite: bool) -> None:
    """FileExistsError unless an export may be written to this folder."""
    if path.is_file():
        raise FileExistsError(f"{path} is a file; name a folder")
    if not path.is_dir() or not any(path.iterdir()):
        return
    former = _former_files(path)
    if former is None:
        raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name")
    if not overwrite:
        raise FileExistsError(f"{path} holds an export; choose another name, or say --overwrite to replace its files")


def check_file(path: Path, mark: bytes, *, overwrite: bool) -> None:
    """FileExistsError unless a page in one file may be written here; ``mark`` is in the head of a former one."""
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; name a file such as {path.name}.html")
    if not path.exists():
        return
    with path.open("rb") as file:
        is_export = mark in file.read(START)
    if not is_export:
        raise FileExistsError(f"{path} exists and is no export; choose another name")
    if not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or say --overwrite")


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an export, its manifest among ``files``, to a folder that ``check_folder`` let pass.

    A new folder is there whole or not at all. Of a former export the files that are no longer wanted go, and whoever
    is interrupted gives the same command again. FileExistsError before anything is written, where a file is in the way
    that the former export did not have. A folder that is there stays that very folder: somebody may be in it.
    """
    former = _former_files(path) or set()
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path.parent, fit_name(path.name, NAME_BYTES - len(PARTIAL_ENDING))) as beside:
            whole = beside / path.name
            for name, content in files.items():
                write_atomic(whole / name, content)
            whole.rename(path)
        return
    for name in files:
        if name not in former and os.path.lexists(path / name):
            raise FileExistsError(f"{path / name} is in the way and does not belong to the export that is there")
    for name in sorted(former - set(files)):
        (path / name).unlink(missing_ok=True)
    for name in (MANIFEST, *(name for name in files if name != MANIFEST)):
        write_atomic(path / name, files[name])


def _former_files(path: Path) -> set[str] | None:
    """The files of the export in a folder, its manifest included; None where there is no export."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        names = {MANIFEST, *manifest["files"]}
        is_export = "vaelab" in manifest and manifest["kind"] in ("onnx", "web")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return names if is_export and all(_is_inside(path, name) for name in names) else None


def _is_inside(path: Path, name: str) -> bool:
    """Whether a name in a manifest is that of a file in this folder, wherever its links lead."""
    parts = PurePosixPath(name)
    within = not parts.is_absolute() and ".." not in parts.parts
    return within and (path / name).parent.resolve().is_relative_to(path.resolve())
