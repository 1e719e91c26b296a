"""Hidden partial files and folders, beside their final place; those of killed processes are removed.

A partial is called ``.NAME.xxxxxxxx.part``. Its writer holds a lock, which the system releases when the process ends.
The next process that writes the same name removes partials whose lock is free.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

if sys.platform != "win32":  # which keeps partials of killed processes
    import fcntl

PARTIAL_ENDING = "..12345678.part"
"""Characters of a partial's name besides the final name."""
PATTERN = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part", re.DOTALL)


@contextmanager
def partial_file(folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """Yield an open handle, which the caller closes, and the path of a new file, locked inside this context."""
    made, handle, lock = _create(folder, name, is_folder=False)
    try:
        yield handle, made
    finally:
        _unlock(lock)


@contextmanager
def partial_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new folder, locked inside this context; its remaining content is removed at the end."""
    made, _, lock = _create(folder, name, is_folder=True)
    try:
        yield made
    finally:
        _unlock(lock)
        shutil.rmtree(made, ignore_errors=True)


def _create(folder: Path, name: str, *, is_folder: bool) -> tuple[Path, int, int | None]:
    """Return a new locked partial, its open handle (-1 for a folder) and the handle of its lock."""
    _remove_abandoned(folder, name)
    where = (".part", f".{name}.", folder)
    while True:
        handle, made = (-1, tempfile.mkdtemp(*where)) if is_folder else tempfile.mkstemp(*where)
        lock = _lock(Path(made))
        if os.path.lexists(made):
            return Path(made), handle, lock
        if not is_folder:
            os.close(handle)
        _unlock(lock)  # another process removed it before it was locked


def _lock(path: Path) -> int | None:
    """Lock a file or folder and return the handle that holds the lock; None if the file system has no locks."""
    if sys.platform == "win32":
        return None
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        _unlock(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _remove_abandoned(folder: Path, name: str) -> None:
    """Remove the partials of ``name`` that no process has locked."""
    if sys.platform == "win32":
        return
    for path in _partials(folder.absolute()).get(name, ()):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            pass  # it is being written, or cannot be removed and does no harm
        finally:
            os.close(handle)


@lru_cache(maxsize=256)
def _partials(folder: Path) -> dict[str, list[Path]]:
    """Return name → partials in a folder when this process first wrote there; listing it for every file is slow."""
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := PATTERN.fullmatch(entry.name):
                    found.setdefault(match[1], []).append(folder / entry.name)
    except OSError:
        pass  # the folder may be written to but not listed
    return found
