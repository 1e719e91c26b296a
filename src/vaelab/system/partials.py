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
    _remove_abandoned(folder, name)
    while True:
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
        lock = _hold(Path(made))
        if os.path.lexists(made):
            break
        os.close(handle)  # another process removed it before it was locked
        _let_go(lock)
    try:
        yield handle, Path(made)
    finally:
        _let_go(lock)


@contextmanager
def partial_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new folder, locked inside this context; its remaining content is removed at the end."""
    _remove_abandoned(folder, name)
    while True:
        made = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}.", suffix=".part"))
        lock = _hold(made)
        if os.path.lexists(made):
            break
        _let_go(lock)
    try:
        yield made
    finally:
        _let_go(lock)
        shutil.rmtree(made, ignore_errors=True)


def _hold(path: Path) -> int | None:
    """Lock a file or folder and return the handle that holds the lock; None if the file system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        os.close(handle)
        return None
    return handle


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


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
