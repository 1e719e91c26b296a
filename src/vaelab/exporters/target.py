"""Where an export is written: to a free path, or over an earlier export; no other files are replaced."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from vaelab.system.files import NAME_BYTES, fit_name, write_atomic
from vaelab.system.partials import PARTIAL_ENDING, partial_folder

Kind = Literal["onnx", "torch", "web"]
MANIFEST, FORMAT = "manifest.json", 1
HEAD_BYTES = 4096
"""Length of the start of a page in which the mark of an export is searched."""


def make_manifest(kind: str, run: str, contents: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return the manifest of an export: its kind, its contents, and the size and digest of each file."""
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    facts = {"format": FORMAT, "vaelab": version("vaelab"), "kind": kind, "run": run}
    return json.dumps({**facts, **contents, "files": listed}, ensure_ascii=False, allow_nan=False).encode()


def read_template(name: str) -> str:
    """Return the text of a README, with fields for ``str.format``."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError unless an export may be written to this folder."""
    if path.is_file():
        raise FileExistsError(f"{path} is a file; name a folder")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if _find_earlier_files(path) is None:
        raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name")
    if not overwrite:
        raise FileExistsError(f"{path} contains an export; choose another name, or replace its files with --overwrite")


def check_file(path: Path, mark: bytes, *, overwrite: bool) -> None:
    """Raise FileExistsError unless a page may be written to this file; ``mark`` identifies an earlier export."""
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; name a file such as {path.name}.html")
    if not path.exists():
        return
    with path.open("rb") as file:
        is_export = mark in file.read(HEAD_BYTES)
    if not is_export:
        raise FileExistsError(f"{path} exists and is not an export; choose another name")
    if not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or replace it with --overwrite")


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an export, including its manifest, to a folder that ``check_folder`` accepted.

    A new folder appears complete or not at all. In the folder of an earlier export, files that are no longer needed are
    removed, and the folder itself is kept; after an interruption the same command completes it. Raises FileExistsError,
    before anything is written, if a file that does not belong to the earlier export is in the way.
    """
    earlier = _find_earlier_files(path) or set()
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path.parent, fit_name(path.name, NAME_BYTES - len(PARTIAL_ENDING))) as beside:
            for name, content in files.items():
                write_atomic(beside / path.name / name, content)
            (beside / path.name).rename(path)
        return
    for name in files:
        if name not in earlier and os.path.lexists(path / name):
            raise FileExistsError(f"{path / name} is in the way and does not belong to the export in this folder")
    for name in sorted(earlier - set(files)):
        (path / name).unlink(missing_ok=True)
    for name in (MANIFEST, *(name for name in files if name != MANIFEST)):
        write_atomic(path / name, files[name])


def _find_earlier_files(path: Path) -> set[str] | None:
    """Return the files of the export in a folder, including its manifest; None if there is no export."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        names = {MANIFEST, *manifest["files"]}
        is_export = "vaelab" in manifest and manifest["kind"] in get_args(Kind)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return names if is_export and all(_is_inside(path, name) for name in names) else None


def _is_inside(path: Path, name: str) -> bool:
    """Whether a name in a manifest, with all links followed, is a file in this folder."""
    parts = PurePosixPath(name)
    within = not parts.is_absolute() and ".." not in parts.parts
    return within and (path / name).parent.resolve().is_relative_to(path.resolve())
