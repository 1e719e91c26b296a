"""The lock of a run's directory: one process at a time trains there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vaelab.run.layout import BEGUN_WITH, LOCK, PATTERNS, RECIPE


class RunInUse(RuntimeError):
    """Another process is training this run."""


class RunRemoved(FileNotFoundError):
    """The directory was removed or replaced while this process trained there."""


class RunLock:
    """Holds a run's directory for this process; a killed process releases it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        """Open lock file while the lock is held."""
        self._had_recipe = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the directory and lock it. If no run was begun there in the end, remove what was made.

        Raises RunInUse.
        """
        made = [folder for folder in (self._path, *self._path.parents) if not folder.exists()]
        self._path.mkdir(parents=True, exist_ok=True)
        before, lock = set(self._path.iterdir()), self._path / LOCK
        if before == {lock}:  # left by a process that was killed before it had begun a run
            before, made = set(), [self._path]
        try:
            with FileLock(self._path / LOCK, timeout=0):
                self._remove_partials()
                self._descriptor = os.open(self._path / LOCK, os.O_RDONLY)
                self._had_recipe = (self._path / RECIPE).is_file()
                try:
                    yield
                finally:
                    os.close(self._descriptor)
                    self._descriptor = None
                    if not (self._path / RECIPE).is_file():
                        self._remove_failed_start(before, made)
        except Timeout:
            advice = "wait for it or choose another --run"
            raise RunInUse(f"{self._path}: another process is training this run; {advice}") from None

    def check(self) -> None:
        """Raise RunRemoved if the locked directory was removed, emptied or replaced; without a lock do nothing."""
        if self._descriptor is None:
            return
        has_recipe = (self._path / RECIPE).is_file()
        try:
            is_same = os.path.samestat((self._path / LOCK).stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_same = False
        if not is_same or (self._had_recipe and not has_recipe):
            raise RunRemoved(
                f"{self._path} was removed while it was trained, with everything in it; the same command starts again"
            )
        self._had_recipe = has_recipe

    def _remove_partials(self) -> None:
        """Remove the half-written files of a killed process."""
        for pattern in PATTERNS:
            folder, _, name = pattern.rpartition("/")
            for partial in (self._path / folder).glob(f".{name}.*.part"):
                partial.unlink()

    def _remove_failed_start(self, before: set[Path], made: list[Path]) -> None:
        """Remove the files and folders that this process made for a run that was not begun."""
        with suppress(OSError):  # the directory may be gone already
            for name in (*BEGUN_WITH, LOCK):
                if (path := self._path / name) not in before:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
