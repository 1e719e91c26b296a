"""The journal of a cache entry in the making: which rows are on the disk, and which pictures were skipped."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from vaelab.data.containers import ImageRef, printable, shown
from vaelab.data.contents import Tally
from vaelab.data.decode import Problem, decoder_version
from vaelab.system.files import write_atomic

JOURNAL = "journal.jsonl"
MIN_PER_PART = 8
TEMPORARY = "temporary"
"""Signature of a picture that the operating system did not return: it is tried again every time."""


class SkippedPicture(NamedTuple):
    """A picture that could not be decoded; ``signature``, of its file and the decoder, tells when to try it again."""

    row: NonNegativeInt
    name: str
    reason: str
    path: Any
    """The file on the disk; its name need not be text."""
    signature: Any

    def is_worth_retry(self) -> bool:
        """Return whether the picture may be readable now."""
        return bool(self.signature == TEMPORARY or _signature(self.path) != self.signature)


class Part(NamedTuple):
    """Rows ``start`` to ``stop`` that are on the disk, the skipped pictures among them, and facts about the others."""

    start: NonNegativeInt
    stop: int
    skipped: list[SkippedPicture]
    content: Tally


_ADAPTER = TypeAdapter(Part)


def describe_problem(row: int, problem: Problem, item: ImageRef) -> SkippedPicture:
    """Return a problem as the journal and the manifest keep it."""
    container, name = item[:2]
    path = os.path.abspath(os.path.join(container, name) if Path(container).is_dir() else container)  # noqa: PTH100, PTH118
    signature = TEMPORARY if problem.is_temporary else _signature(path)
    return SkippedPicture(row, shown(item), printable(problem.reason), path, signature)


def write_journal(journal: Path, parts: Sequence[Part]) -> None:
    """Begin a journal with the parts that are done."""
    write_atomic(journal, "".join(map(to_line, parts)))


def to_line(part: Part) -> str:
    """Return a part as a line of the journal."""
    return json.dumps(_ADAPTER.dump_python(part)) + "\n"


def read_journal(journal: Path, count: int) -> list[Part]:
    """Return the parts in a journal of ``count`` rows, without damaged lines and parts with pictures worth a retry."""
    parts: list[Part] = []
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines() if journal.is_file() else ():
        try:
            part = _ADAPTER.validate_python(json.loads(line))
        except (ValueError, TypeError, RecursionError, ValidationError):
            continue
        is_within = part.start < part.stop <= count
        is_new = all(part.stop <= other.start or other.stop <= part.start for other in parts)
        is_whole = all(part.start <= picture.row < part.stop for picture in part.skipped)
        if is_within and is_new and is_whole and not any(picture.is_worth_retry() for picture in part.skipped):
            parts.append(part)
    return parts


def split_rows(count: int, done: Sequence[Part], most: int, border: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (first row, row after the last) of parts that fill the gaps between those done.

    Parts are small at first, so that progress shows early, and grow to ``most`` rows. None crosses a multiple of
    ``border``.
    """
    position, size = 0, min(most, MIN_PER_PART)
    for begin, end in [*sorted((part.start, part.stop) for part in done), (count, count)]:
        while position < begin:
            stop = min(position + size, begin, begin if border is None else (position // border + 1) * border)
            yield position, stop
            position, size = stop, min(most, 2 * size)
        position = max(position, end)


def _signature(path: str) -> list[Any] | None:
    """Return size, time of change and version of the decoder; None if there is no file."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns, decoder_version()]
