"""Answers about finished runs, kept in the cache: a question that is asked again needs neither torch nor images.

An answer is given again only if nothing that it follows from has changed: question, files of the run, installed
versions, dates of the image folders. The content of the files counts, not their dates.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from vaelab.api.run_images import find_place
from vaelab.run import LOG, Run
from vaelab.system import registry
from vaelab.system.memos import memo_path, read_memo, write_memo
from vaelab.system.messages import VaelabWarning

KIND = "answers"
NUM_KEPT = 500
"""Answers in the cache; the oldest make room."""
NUM_FOLDERS = 1000
"""Entries of the folder of the images among which folders are looked for."""


def answer(
    run: Run, verb: str, question: Mapping[str, Any], find: Callable[[], dict[str, Any]], data: Path | None = None
) -> dict[str, Any]:
    """Return what ``find`` returns, which is JSON; from the cache if nothing has changed since it was last asked.

    ``question``: the arguments of the command ``verb`` other than run and ``data``. An answer about an unfinished run,
    or one that came with a warning, is not kept.
    """
    if not run.is_finished:
        return find()
    with suppress(OSError):  # a file that cannot be read: the command says so
        known = read_memo(_locate(run, verb, question, data))
        if known is not None:
            return known
    with _count_warnings() as issued:
        found = find()
    if not issued:
        keep_answer(run, verb, question, found, data)
    return found


def keep_answer(
    run: Run, verb: str, question: Mapping[str, Any], found: dict[str, Any], data: Path | None = None
) -> None:
    """Keep an answer about a finished run as it is now."""
    with suppress(OSError):
        path = _locate(run, verb, question, data)
        write_memo(path, found)
        dates = {other: other.stat().st_mtime_ns for other in path.parent.glob("*.json")}
        for other in sorted(dates, key=dates.__getitem__)[:-NUM_KEPT]:
            other.unlink(missing_ok=True)


@contextmanager
def _count_warnings() -> Iterator[list[str]]:
    """Yield a list to which each VaelabWarning is appended, besides being shown."""
    issued: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, VaelabWarning):
                issued.append(str(message))
            show(message, category, *place, **more)

        warnings.showwarning = note
        yield issued


def _locate(run: Run, verb: str, question: Mapping[str, Any], data: Path | None) -> Path:
    """Return the file of an answer, named by everything that it follows from."""
    place = data or find_place(run)
    files = (path for path in sorted(run.path.iterdir()) if path.is_file() and not path.name.startswith("."))
    key = {
        "verb": verb,
        "question": {name: str(value) for name, value in question.items()},
        "run": str(run.path.resolve()),
        "data": [str(data), os.environ.get("VAELAB_DATA", "")],
        "code": [version("vaelab"), version("torch"), *registry.list_packages(), _newest(Path(__file__).parents[1])],
        "files": {path.name: _digest(path) for path in files if path.name != LOG},
        "images": [] if place is None else _list_dates(place),
    }
    return memo_path(KIND, key)


def _newest(folder: Path) -> int:
    """Return the date of the newest file of code, for an installation that is being edited."""
    return max(path.stat().st_mtime_ns for path in folder.rglob("*.py"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _list_dates(place: Path) -> list[int]:
    """Return the dates of a file, or of a folder and the folders in it; [] if it is not there."""
    if not place.is_dir():
        return [place.stat().st_mtime_ns] if place.exists() else []
    with os.scandir(place) as entries:
        folders = sorted(Path(entry.path) for entry in islice(entries, NUM_FOLDERS) if entry.is_dir())
    return [path.stat().st_mtime_ns for path in (place, *folders)]
