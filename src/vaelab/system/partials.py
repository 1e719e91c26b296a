"""Hidden partial files and folders beside what they will become; what a killed process left is removed.

A partial is called ``.NAME.xxxxxxxx.part``. Its writer holds a lock on it, which the system releases when the process
ends in whatever way. The next process that writes the same name removes partials that nobody holds.
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

if sys.platform != "win32":  # there, partials of killed processes stay
    import fcntl

PARTIAL_ENDING = "..12345678.part"
"""What the name of a partial has besides the name of what it will become."""
PATTERN = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part", re.DOTALL)


@contextmanager
def partial_file(folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """An open handle, which the caller closes, and the path of a new hidden file, held until the context ends."""
    _remove_abandoned(folder, name)
    while True:
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
        lock = _hold(Path(made))
        if os.path.lexists(made):
            break
        os.close(handle)  # another process took it for abandoned before it was held
        _let_go(lock)
    try:
        yield handle, Path(made)
    finally:
        _let_go(lock)


@contextmanager
def partial_folder(folder: Path, name: str) -> Iterator[Path]:
    """A new hidden folder, held until the context ends and then removed with what is left in it."""
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
    """Lock a file or folder; the handle that holds the lock, or None where the file system has no locks."""
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
    """Remove the partials of ``name`` that no process holds."""
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
            pass  # it is being written, or cannot be removed: it does no harm
        finally:
            os.close(handle)


@lru_cache(maxsize=256)
def _partials(folder: Path) -> dict[str, list[Path]]:
    """Name → its partials in a folder when this process first wrote there; listing it for each file would be slow."""
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := PATTERN.fullmatch(entry.name):
                    found.setdefault(match[1], []).append(folder / entry.name)
    except OSError:
        pass  # a folder that may be written to but not listed
    return found
