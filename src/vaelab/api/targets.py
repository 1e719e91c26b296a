"""Where a verb writes: a file or a folder, decided by the file system first and by the name last."""

import os
from collections.abc import Sequence
from pathlib import Path

from vaelab.data.containers import PICTURE_SUFFIXES
from vaelab.system import registry as catalog
from vaelab.system.arguments import check_path
from vaelab.system.files import split_ending, unique_path

SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
FILE_ENDINGS = PICTURE_SUFFIXES | {
    ".csv", ".parquet", ".npz", ".npy", ".json", ".txt", ".toml", ".html", ".htm", ".pdf", ".svg", ".eps", ".zip",
    ".avif", ".heic", ".jp2", ".pgm", ".ppm", ".pnm", ".mp4", ".webm", ".safetensors", ".onnx", ".pt",
}  # fmt: skip
"""Endings that name a file; a name with any other ending, such as ``samples.2026-11-28``, may be a folder's."""


def ending_of(path: Path) -> str:
    """The ending of a file name in lower case, with its dot; empty where there is none."""
    return split_ending(path.name)[1].lower()


def is_folder(given: str | Path) -> bool:
    """Whether a path names a folder: there is one, or the path ends with a separator."""
    text = os.fspath(given)
    if text.endswith(SEPARATORS) and Path(text).is_file():
        raise FileExistsError(f"{Path(text)} is a file; choose another name, or leave the {text[-1]} out")
    return text.endswith(SEPARATORS) or Path(text).is_dir()


def output_file(given: str | Path | None, default: str, endings: Sequence[str], *, overwrite: bool) -> Path:
    """The file to write: the one given, a free name like ``default`` in the folder given, or one in this folder.

    ``endings``: those that the file may have. FileExistsError unless it is free or ``overwrite``; UnknownName for
    another ending.
    """
    if given is None:
        return unique_path(Path(default))
    path = check_path(given, "out")
    check_parents(path)
    if is_folder(given):
        inside = path / default
        return inside if overwrite and inside.is_file() else unique_path(inside)
    if ending_of(path) not in endings:
        raise catalog.unknown("ending of --out", ending_of(path) or path.name, endings)
    _check_free(path, overwrite=overwrite)
    return path


def output_pictures(given: str | Path | None, default: str, *, overwrite: bool) -> tuple[Path, bool]:
    """Where pictures go, and whether all of them go onto one sheet, a .png; else each goes into a folder.

    A folder must be new or empty, a sheet free unless ``overwrite``: FileExistsError. ValueError for another file.
    """
    if given is None:
        return unique_path(Path(default)), True
    path = check_path(given, "out")
    check_parents(path)
    if is_folder(given):
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name for --out")
        return path, False
    if ending_of(path) == ".png":
        _check_free(path, overwrite=overwrite)
        return path, True
    if ending_of(path) in FILE_ENDINGS:
        raise ValueError(f"{path}: pictures go to a .png or into a folder (for a folder of this name end it with /)")
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is a file; choose another --out: a .png or a folder")
    return path, False


def check_parents(path: Path) -> None:
    """NotADirectoryError where a folder is to be made below something that is a file."""
    for parent in path.parents:
        if parent.is_dir():
            return
        if os.path.lexists(parent):
            raise NotADirectoryError(f"{parent} is a file, so {path} cannot lie below it; choose another --out")


def _check_free(path: Path, *, overwrite: bool) -> None:
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise FileExistsError(f"{path} exists; choose another --out, or say --overwrite")
