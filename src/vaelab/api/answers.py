"""Answers about finished runs, kept in the cache: a question that is asked again needs neither torch nor images.

An answer is given again only if nothing that it follows from has changed: question, files of the run, installed
versions, and names, sizes and dates of the images. The content of the run's files counts, not their dates.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from vaelab.api.run_images import find_place
from vaelab.data.cache import file_signature
from vaelab.data.scan import digest, scan
from vaelab.run import EVALUATION, FINDINGS, MACHINE, MODEL, RECIPE, Run
from vaelab.run.layout import PICTURES, TABLES
from vaelab.system import registry
from vaelab.system.machine import find_version
from vaelab.system.memos import memo_path, read_memo, write_memo

KIND = "answers"
NUM_KEPT = 500
"""Answers in the cache; the oldest make room."""
FILES = (RECIPE, MACHINE, PICTURES, *TABLES, MODEL)
RESULTS = (EVALUATION, FINDINGS)
"""Files of a run that commands with an answer write themselves."""
PACKAGES = ("vaelab", "torch", "torch-fidelity")
"""Packages whose versions results depend on; with the last, images are compared by other features."""
NUM_SIGNED = 1000
"""Files whose dates are looked at, except for the pictures of a run, all of which are."""


def answer(
    run: Run, verb: str, question: Mapping[str, Any], find: Callable[[], dict[str, Any]], data: Path | None = None
) -> dict[str, Any]:
    """Return what ``find`` returns, which is JSON; from the cache if nothing has changed since it was last asked.

    ``question``: the arguments of the command ``verb`` other than run and ``data``. An answer is not kept if the run is
    not finished, if a warning came with it, or if the run or its images changed meanwhile.
    """
    before = _describe(run, verb, question, data)
    if before and (known := read_memo(memo_path(KIND, before))) is not None:
        return known
    with _collect_warnings() as issued:
        found = find()
    after = _describe(run, verb, question, data)
    if before and not issued and after == {**before, "results": after.get("results")}:
        _keep(after, found)
    return found


def keep_answer(run: Run, verb: str, question: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Keep an answer about a finished run as it is now."""
    if now := _describe(run, verb, question, None):
        _keep(now, found)


def _keep(key: Mapping[str, Any], found: dict[str, Any]) -> None:
    path = memo_path(KIND, key)
    write_memo(path, found)
    with suppress(OSError):
        dates = {other: other.stat().st_mtime_ns for other in path.parent.glob("*.json")}
        for other in sorted(dates, key=dates.__getitem__)[:-NUM_KEPT]:
            other.unlink(missing_ok=True)


@contextmanager
def _collect_warnings() -> Iterator[list[str]]:
    """Yield a list to which each warning is appended, besides being shown."""
    issued: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *about: Any, **more: Any) -> None:
            issued.append(str(message))
            show(message, *about, **more)

        warnings.showwarning = note
        yield issued


def _describe(run: Run, verb: str, question: Mapping[str, Any], data: Path | None) -> dict[str, Any]:
    """Return everything that an answer follows from; nothing if the run is not finished or a file cannot be read."""
    with suppress(OSError, ValueError):
        if run.is_finished:
            return {
                "verb": verb,
                "question": {name: str(value) for name, value in question.items()},
                "run": [str(run.path.resolve()), run.is_writable],
                "data": [str(data), os.environ.get("VAELAB_DATA", "")],
                "code": [*map(find_version, PACKAGES), *registry.list_packages(), _newest(Path(__file__).parents[1])],
                "files": _digest(run, FILES),
                "results": _digest(run, RESULTS),
                "images": _sign_images(run, data or find_place(run)),
            }
    return {}


def _newest(folder: Path) -> int:
    """Return the date of the newest file of code, for an installation that is being edited."""
    return max(path.stat().st_mtime_ns for path in folder.rglob("*.py"))


def _digest(run: Run, names: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of each file of a run that is there."""
    found = {}
    for path in (run.path / name for name in names):
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _sign_images(run: Run, place: Path | None) -> list[Any]:
    """Return what changes if a file at the place of a run's images is added, removed or replaced."""
    if place is None:
        return []
    if place.is_dir() and (run.path / PICTURES).exists():
        found = scan(place)
        return [*file_signature(place)[:1], digest([*found.entries, *found.hidden_entries])]
    return [file_signature(path) for path in (place, *islice(place.rglob("*"), NUM_SIGNED))]
