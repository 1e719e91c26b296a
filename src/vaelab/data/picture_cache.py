"""Cached pictures: pictures decoded once, into one uint8 array on the disk, for every later run.

An entry of the cache is a folder: ``pixels.npy`` (a large one has ``pixels-00000.npy`` and so on), ``columns.npz``
(labels, attributes) and ``manifest.json``. While it is made it has another name and a journal of the finished parts,
so that a killed process loses no more than the parts in its hands.

Only pictures that were read are kept. A picture that the system did not hand over is tried again at every start, one
that could not be decoded when its file or the decoder has changed.
"""

import hashlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data import decode as decoding
from vaelab.data.arrays import ArrayView, PixelArray
from vaelab.data.cache import (
    MANIFEST,
    REMEDY,
    Manifest,
    Selection,
    add_checksums,
    check_space,
    checksum_blocks,
    entry_folder,
    locked,
    open_rows,
    read_manifest,
    unreadable,
    write_manifest,
)
from vaelab.data.containers import ImageRef, UnreadablePictures, printable, shown
from vaelab.data.contents import RECORD, Tally
from vaelab.data.decode import Problem, ResizePolicy
from vaelab.data.decode_pool import run_jobs
from vaelab.data.images import Images
from vaelab.data.journal import (
    JOURNAL,
    Done,
    Failure,
    is_stale,
    make_failure,
    path_of,
    read_journal,
    split_rows,
    write_journal,
)
from vaelab.data.npy import PixelFiles, open_pixels, read_npz, write_array
from vaelab.system.files import DamagedFile, write_atomic, writing_atomic
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress

VERSION = 3
"""Of what decoding and framing do: a change makes new cache entries."""
COLUMNS, RECORDS = "columns.npz", "records.npy"
SHARD_BYTES = 1 << 32
"""Of pixels in one file; cache entries with more have several."""
PART_BYTES = 1 << 24
"""Of pixels that one worker holds at a time."""
MOST_PER_PART = 128
MOST_COLUMN_BYTES = 1 << 32
"""Of labels and attributes; more are taken for damage."""


@dataclass(frozen=True)
class PictureFiles:
    """What is to be cached."""

    items: Sequence[ImageRef]
    policy: ResizePolicy
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Name → one row for each item."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else should be known of it later, as JSON."""
    strict: bool = False
    """Make nothing while there is a picture that cannot be read."""


@dataclass(frozen=True)
class CachedPictures:
    """Decoded pictures on the disk."""

    folder: Path
    pixels: PixelArray
    columns: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    digest: str
    """The fingerprint of the images."""
    left_out: list[tuple[str, str]]
    """(name, reason) of the pictures that could not be read."""
    rows: NDArray[np.int64]
    """Rows of the source's items that are in the cache entry."""
    content: Tally = field(default_factory=Tally)
    """What the pictures hold."""
    num_recovered: int = 0
    """Pictures that could not be read before, and now could."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def loss(self) -> str:
        """How many pictures are left out, and the first of them; empty where there are none."""
        return str(UnreadablePictures(self.left_out, len(self) + len(self.left_out))) if self.left_out else ""

    @property
    def recovery(self) -> str:
        """How many pictures were read at last; empty where there are none."""
        if not self.num_recovered:
            return ""
        count = "1 picture" if self.num_recovered == 1 else f"{self.num_recovered:,} pictures"
        return f"{count} that could not be read before can be read now: the cache entry was completed"


def cache_pictures(title: str, key: Mapping[str, Any], describe: Callable[[], PictureFiles]) -> CachedPictures:
    """The cache entry of this key, made or completed first where it has to be.

    ``key`` is everything that shapes the result, as JSON; ``describe`` is called only where pictures are to be read.
    OSError if the disk is too small for it; UnreadablePictures if no picture can be read, or one of a strict source
    cannot.
    """
    folder = entry_folder(title, _digest(key))
    opened = _open(folder)
    if opened is None:
        with locked(folder, title):
            opened = _open(folder)
            if opened is None:
                _make(folder, title, describe())
                opened = _open(folder)
                if opened is None:
                    raise unreadable(folder)
    if any(is_stale(path, signature) for path, signature in opened[1].unread):
        return _try_again(folder, title, *opened, describe())
    return opened[0]


def find_cached(name: str, digest: str) -> CachedPictures | None:
    """Find the entry with this folder name and images of this fingerprint; None if there is none.

    They may be those before pictures that could not be read became readable.
    """
    is_name = name == Path(name).name and name not in ("", ".", "..")
    opened = _open(cache_dir() / "images" / name) if is_name else None
    if opened is None or opened[0].digest == digest:
        return None if opened is None else opened[0]
    cached, facts = opened
    selection = next((earlier for earlier in facts.earlier if earlier.digest == digest), None)
    if selection is None:
        return None
    pixels, kept = open_rows(cached.folder, facts, selection)
    columns = _read_columns(cached.folder, facts, len(kept) + len(selection.rows_left_out))
    return replace(
        cached, pixels=pixels, digest=digest, columns={n: column[kept] for n, column in columns.items()}, rows=kept
    )


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()[:20]


def select_earlier(images: Images, digest: str) -> Images | None:
    """The images of the same entry before pictures became readable, by their fingerprint; None if there are none."""
    if images.cache_folder is None:
        return None
    facts = read_manifest(images.cache_folder)
    selection = next((earlier for earlier in facts.earlier if earlier.digest == digest), None)
    if selection is None:
        return None
    pixels, kept = open_rows(images.cache_folder, facts, selection)
    columns = _read_columns(images.cache_folder, facts, len(kept) + len(selection.rows_left_out))
    chosen: dict[str, Any] = {name: column[kept] for name, column in columns.items()}
    return replace(images, pixels=pixels, digest=digest, **chosen)


def _open(folder: Path) -> tuple[CachedPictures, Manifest] | None:
    """The cache entry in a folder and its ``manifest.json``; None where there is none, or a damaged one."""
    try:
        facts = read_manifest(folder)
        pixels, kept = open_rows(folder, facts)
        columns = _read_columns(folder, facts, len(pixels) + len(facts.rows_left_out))
    except (OSError, ValueError):
        return None
    return CachedPictures(
        folder=folder,
        pixels=pixels,
        columns={name: column[kept] for name, column in columns.items()},
        facts=facts.facts,
        digest=facts.digest,
        left_out=facts.left_out,
        content=facts.content or Tally(),
        rows=kept,
    ), facts


def _read_columns(folder: Path, facts: Manifest, count: int) -> dict[str, NDArray[Any]]:
    """Labels and attributes, one row for each picture; DamagedFile where they are not as they were written."""
    path = folder / COLUMNS
    if facts.checksums is not None and checksum_blocks(path) != facts.checksums.get(COLUMNS):
        raise DamagedFile(path, "its checksum does not match its content", REMEDY)
    columns = read_npz(path, max_bytes=MOST_COLUMN_BYTES)
    if any(column.ndim == 0 or len(column) < count for column in columns.values()):
        raise DamagedFile(path, "it has too few rows", REMEDY)
    return columns


# -- making -----------------------------------------------------------------------------------------------------------


def _make(folder: Path, title: str, source: PictureFiles) -> None:
    making = folder.with_name(f"{folder.name}.part")
    making.mkdir(parents=True, exist_ok=True)
    shape = (len(source.items), source.policy.height, source.policy.width, source.policy.channels)
    files = PixelFiles(making, shape, SHARD_BYTES)
    failures = _fill(making, title, source, files)
    rows = [row for row, _, _ in failures]
    left_out = [(shown(source.items[row]), printable(reason)) for row, reason, _ in failures]
    if len(rows) == len(source.items):
        shutil.rmtree(making)
    if rows and (source.strict or not making.exists()):
        raise UnreadablePictures(left_out, len(source.items))
    pixels = open_pixels(making, files.num_files)
    kept_rows = np.delete(np.arange(len(pixels)), rows)
    kept = ArrayView(pixels, kept_rows) if rows else pixels
    content = Tally()
    content.add(kept_rows, kept, np.load(making / RECORDS, allow_pickle=False)[kept_rows])
    with progress(f"checking {title}", len(kept)) as bar:
        digest = Images(kept).fingerprint()
        bar.advance(len(kept))
    columns = io.BytesIO()
    np.savez(columns, allow_pickle=False, **source.columns)
    write_atomic(making / COLUMNS, columns.getvalue())
    facts = Manifest(
        title=title,
        digest=digest,
        num_files=files.num_files,
        shape=list(shape),
        rows_left_out=rows,
        left_out=left_out,
        unread=[(path_of(source.items[row]), signature) for row, _, signature in failures],
        earlier=_earlier(making, digest),
        content=content,
        facts=dict(source.facts),
    )
    write_manifest(making, add_checksums(making, facts))
    (making / JOURNAL).unlink()
    if folder.exists():  # damaged
        shutil.rmtree(folder)
    making.replace(folder)


def _earlier(making: Path, digest: str) -> list[Selection]:
    """The images of a cache entry that is being completed, and those before them."""
    try:
        before = read_manifest(making)
    except (OSError, DamagedFile):
        return []
    last = Selection(digest=before.digest, rows_left_out=before.rows_left_out, left_out=before.left_out)
    return [selection for selection in (last, *before.earlier) if selection.digest != digest]


def _fill(making: Path, title: str, source: PictureFiles, files: PixelFiles) -> list[Failure]:
    """Decode what the journal does not hold yet; all pictures that cannot be read."""
    journal, count = making / JOURNAL, len(source.items)
    records = making / RECORDS
    begun = files.are_begun() and records.is_file()
    done = read_journal(journal, source.items) if begun else []
    most = max(1, min(MOST_PER_PART, PART_BYTES // files.row_bytes))
    todo = dict(split_rows(count, done, most, files.rows_per_file))
    num_todo = sum(stop - start for start, stop in todo.items())
    check_space(making, num_todo * files.row_bytes)
    write_journal(journal, done)  # without half a line at its end
    if not begun:
        files.create()
        with writing_atomic(records) as file:
            write_array(file, np.zeros(count, RECORD))
    jobs = [
        (start, *files.locate(start), source.items[start:stop], source.policy, str(records))
        for start, stop in todo.items()
    ]
    with progress(f"caching {title}", count) as bar, journal.open("a", encoding="utf-8") as lines:
        bar.advance(count - num_todo)
        for start, found in run_jobs(decoding.decode_into, jobs):
            failures = [make_failure(start + problem.position, problem, source.items) for problem in found]
            done.append((start, todo[start], failures))
            lines.write(json.dumps(done[-1]) + "\n")
            lines.flush()
            bar.advance(todo[start] - start)
    return sorted(failure for _, _, failures in done for failure in failures)


# -- completing -------------------------------------------------------------------------------------------------------


def _try_again(
    folder: Path, title: str, cached: CachedPictures, facts: Manifest, source: PictureFiles
) -> CachedPictures:
    """The cache entry with those pictures that failed before and can be read now.

    Where there are none it stays as it is, and only what is known of the failures is brought up to date.
    """
    known = dict(zip(facts.rows_left_out, facts.unread, strict=True))
    stale = [row for row, (path, signature) in known.items() if is_stale(path, signature)]
    if max(stale) >= len(source.items):  # another set of pictures under one key cannot be
        raise DamagedFile(folder / MANIFEST, "it names rows that do not exist", REMEDY)
    problems, _ = _examine(f"{title} again", [source.items[row] for row in stale], source.policy)
    failures = {stale[i]: make_failure(stale[i], problem, source.items) for i, problem in problems.items()}
    reasons = dict(zip(facts.rows_left_out, facts.left_out, strict=True))
    reasons |= {row: (shown(source.items[row]), printable(reason)) for row, reason, _ in failures.values()}
    recovered = [row for row in stale if row not in failures]
    still = [row for row in facts.rows_left_out if row not in recovered]
    left_out = [reasons[row] for row in still]
    if still and source.strict:
        raise UnreadablePictures(left_out, len(source.items))
    if not recovered:
        unread = [(known[row][0], failures[row][2]) if row in failures else known[row] for row in still]
        if (unread, left_out) != (facts.unread, facts.left_out):
            with suppress(OSError), locked(folder, title):  # a read-only cache: tried again the next time
                write_manifest(folder, facts.model_copy(update={"unread": unread, "left_out": left_out}))
        return replace(cached, left_out=left_out)
    with locked(folder, title):
        opened = _open(folder)
        if opened is not None and opened[1].rows_left_out == facts.rows_left_out:  # nobody was faster
            _reopen(folder, stale, facts)
            _make(folder, title, source)
            opened = _open(folder)
        if opened is None:
            raise unreadable(folder)
    return replace(opened[0], num_recovered=len(recovered))


def _reopen(folder: Path, stale: Sequence[int], facts: Manifest) -> None:
    """Turn a cache entry back into one that is being made, in which the rows ``stale`` are missing."""
    resolved = {
        row: (row, reason, signature)
        for row, (_, reason), (_, signature) in zip(facts.rows_left_out, facts.left_out, facts.unread, strict=True)
        if row not in stale
    }
    count = len(open_rows(folder, facts)[0]) + len(facts.rows_left_out)
    borders = [-1, *sorted(stale), count]
    done: list[Done] = [
        (before + 1, row, [failure for at, failure in resolved.items() if before < at < row])
        for before, row in itertools.pairwise(borders)
        if before + 1 < row
    ]
    write_journal(folder / JOURNAL, done)
    making = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    folder.replace(making)


def _examine(title: str, items: Sequence[ImageRef], policy: ResizePolicy) -> tuple[dict[int, Problem], Tally]:
    """Position → problem of the pictures that cannot be read, and what the others hold, decoded as for the cache."""
    parts = dict(split_rows(len(items), [], MOST_PER_PART))
    found: dict[int, Problem] = {}
    content = Tally()
    with progress(f"checking {title}", len(items)) as bar:
        jobs = [(start, items[start:stop], policy) for start, stop in parts.items()]
        for start, (problems, tally) in run_jobs(decoding.examine, jobs):
            found |= {start + problem.position: problem for problem in problems}
            content.merge(tally)
            bar.advance(parts[start] - start)
    return dict(sorted(found.items())), content


def check_items(
    title: str, items: Sequence[ImageRef], policy: ResizePolicy
) -> tuple[list[tuple[ImageRef, str]], Tally]:
    """(item, reason) of the pictures that cannot be read, and what the others hold, decoded as for the cache."""
    problems, content = _examine(title, items, policy)
    return [(items[i], problem.reason) for i, problem in problems.items()], content


def list_pages(items: Sequence[ImageRef]) -> list[list[int]]:
    """The numbers of the pages of each file; none for a file that the system does not hand over."""
    parts = dict(split_rows(len(items), [], MOST_PER_PART))
    found: dict[int, list[list[int]]] = {}
    with progress("counting pages", len(items)) as bar:
        jobs = [(start, items[start:stop]) for start, stop in parts.items()]
        for start, pages in run_jobs(decoding.count_pages, jobs):
            found[start] = pages
            bar.advance(parts[start] - start)
    return [pages for start in sorted(found) for pages in found[start]]
