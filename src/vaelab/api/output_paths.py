"""Output files and folders. The file system decides which of the two ``--out`` names, then the name itself."""

import os
from collections.abc import Sequence
from pathlib import Path

from vaelab.data.containers import PICTURE_SUFFIXES
from vaelab.run import RECIPE, Run
from vaelab.system import hub, registry
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.errors import UsageError
from vaelab.system.files import check_parents, split_extension, unique_path

SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
FILE_EXTENSIONS = PICTURE_SUFFIXES | {
    ".csv", ".parquet", ".npz", ".npy", ".json", ".txt", ".toml", ".html", ".htm", ".pdf", ".svg", ".eps", ".zip",
    ".avif", ".heic", ".jp2", ".pgm", ".ppm", ".pnm", ".mp4", ".webm", ".safetensors", ".onnx", ".pt",
}  # fmt: skip
"""Extensions of files. A name with any other one, such as ``samples.2026-11-28``, may be a folder's."""


def get_extension(path: Path) -> str:
    """Return the extension of a file name in lower case, with its dot; empty if there is none."""
    return split_extension(path.name)[1].lower()


def is_folder(out: str | Path) -> bool:
    """Return whether a path names a folder: one that exists, or a name that ends with a separator."""
    text = os.fspath(out)
    if text.endswith(SEPARATORS) and Path(text).is_file():
        raise FileExistsError(f"{Path(text)} is a file; choose another name, or leave out the {text[-1]}")
    return text.endswith(SEPARATORS) or Path(text).is_dir()


def default_out(run_path: AnyPath, extension: str) -> Path:
    """Return an unused name next to a run for what is written about it: its own name and ``extension``."""
    path = _find_run(run_path)
    return unique_path(find_folder(path) / f"{Run.at(path).name}{extension}")


def find_folder(run_path: AnyPath) -> Path:
    """Return the folder in which a run lies, the present one for a model on the hub.

    Raises PermissionError if nothing can be written there.
    """
    path = _find_run(run_path)
    folder = path.parent if path.name not in ("", "..") else path.resolve().parent
    if hub.parse_address(path) or hub.identify_snapshot(path):
        folder = Path()
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to; name another place with --out")
    return folder


def _find_run(run_path: AnyPath) -> Path:
    """Return the path of a run, also for the file of its model."""
    path = check_path(run_path, "a run")
    return path.parent if path.is_file() and (path.parent / RECIPE).is_file() else path


def choose_file(out: str | Path, default: str, extensions: Sequence[str], *, overwrite: bool) -> Path:
    """Return the file to write: ``out``, or an unused name like ``default`` in the folder ``out``.

    Raises FileExistsError if the file exists, unless ``overwrite``, and UnknownName for other than ``extensions``.
    """
    path = check_path(out, "out")
    check_parents(path)
    if is_folder(out):
        inside = path / default
        return inside if overwrite and inside.is_file() else unique_path(inside)
    if get_extension(path) not in extensions:
        raise registry.unknown("extension of --out", get_extension(path) or path.name, extensions)
    _check_unused(path, overwrite=overwrite)
    return path


def choose_pictures(out: str | Path | None, default: str, *, overwrite: bool) -> tuple[Path, bool]:
    """Return where pictures go, and whether they form one sheet, a .png; otherwise they go one by one into a folder.

    Raises FileExistsError unless a folder is new or empty and a sheet is new (or ``overwrite``), and UsageError for a
    file of another kind.
    """
    if out is None:
        return unique_path(Path(default)), True
    path = check_path(out, "out")
    check_parents(path)
    if is_folder(out):
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name for --out")
        return path, False
    extension = get_extension(path)
    if extension == ".png":
        _check_unused(path, overwrite=overwrite)
        return path, True
    if extension in FILE_EXTENSIONS:
        message = f"{path}: images go to a .png or into a folder (for a folder of this name end it with /)"
        raise UsageError(message, subject="out", value=path)
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is a file; choose another --out: a .png or a folder")
    return path, False


def _check_unused(path: Path, *, overwrite: bool) -> None:
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise FileExistsError(f"{path} exists; choose another --out, or use --overwrite")
