"""The journal of a cache entry that is being made: which rows are on the disk, and which pictures could not be read."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaelab.data.containers import ImageRef
from vaelab.data.decode import Problem, decoder_version
from vaelab.system.files import write_atomic

JOURNAL = "journal.jsonl"
FEWEST_PER_PART = 8
TEMPORARY = "temporary"
"""Stamp of a picture that the system did not hand over."""

Failure = tuple[int, str, Any]
"""Row of a picture that cannot be used, why, and the signature that tells when to try again."""
Done = tuple[int, int, list[Failure]]
"""First row of a part that is on the disk, the row after its last, and its failures."""


def make_failure(row: int, problem: Problem, items: Sequence[ImageRef]) -> Failure:
    """A problem as the journal and ``manifest.json`` keep it."""
    return row, problem.reason, TEMPORARY if problem.is_temporary else _failure_signature(path_of(items[row]))


def write_journal(journal: Path, done: Sequence[Done]) -> None:
    """Begin a journal with the parts that are done."""
    write_atomic(journal, "".join(json.dumps(line) + "\n" for line in done))


def read_journal(journal: Path, items: Sequence[ImageRef]) -> list[Done]:
    """The parts in a journal, without damaged lines and without parts whose pictures should be tried again."""
    done: list[Done] = []
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines() if journal.is_file() else ():
        try:
            start, stop, failures = json.loads(line)
            part: Done = (
                int(start),
                int(stop),
                [(int(row), str(reason), signature) for row, reason, signature in failures],
            )
        except (ValueError, TypeError, RecursionError):
            continue
        rows = [row for row, _, _ in part[2]]
        if not 0 <= part[0] < part[1] <= len(items) or any(not part[0] <= row < part[1] for row in rows):
            continue
        if not any(is_stale(path_of(items[row]), signature) for row, _, signature in part[2]):
            done.append(part)
    return done


def split_rows(count: int, done: Sequence[Done], most: int, border: int | None = None) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of parts that fill the gaps between those done: small at first, ``most`` later.

    So the first ones show soon how long the rest takes. None goes across a multiple of ``border``.
    """
    position, size = 0, min(most, FEWEST_PER_PART)
    for begin, end in [*sorted((start, stop) for start, stop, _ in done), (count, count)]:
        while position < begin:
            stop = min(position + size, begin, begin if border is None else (position // border + 1) * border)
            yield position, stop
            position, size = stop, min(most, 2 * size)
        position = max(position, end)


def path_of(item: ImageRef) -> str:
    """The file on the disk that an item is read from."""
    container, name = item[:2]
    return os.path.abspath(os.path.join(container, name) if Path(container).is_dir() else container)  # noqa: PTH100, PTH118


def _failure_signature(path: str) -> list[Any] | None:
    """Size, time of change and version of the decoder: a failure stays one while they do. None without a file."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns, decoder_version()]


def is_stale(path: str, signature: Any) -> bool:
    """Whether a picture that failed should be tried again."""
    return bool(signature == TEMPORARY or _failure_signature(path) != signature)
