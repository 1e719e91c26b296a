"""Caches pictures: every file is decoded once, by several processes, into an entry of the image cache.

A killed process loses no more than the parts in its hands. Only pictures that could be decoded are kept. A picture that
the operating system did not return is tried again at every start, any other when its file or the decoder changes.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data import decode as decoding
from vaelab.data.cache import (
    MANIFEST,
    REMEDY,
    SHARD_BYTES,
    CachedImages,
    Manifest,
    check_room,
    find_or_make,
    finish_entry,
    locked,
    open_entry,
    part_folder,
    reopen_entry,
    write_manifest,
)
from vaelab.data.containers import ImageRef, UnreadablePictures
from vaelab.data.contents import Tally
from vaelab.data.decode import Problem, ResizePolicy
from vaelab.data.decode_pool import run_jobs
from vaelab.data.journal import (
    JOURNAL,
    Part,
    SkippedPicture,
    describe_problem,
    read_journal,
    split_rows,
    to_line,
    write_journal,
)
from vaelab.data.npy import PixelFiles
from vaelab.system.files import DamagedFile
from vaelab.system.progress import progress

PART_BYTES = 1 << 24
"""Pixels that one worker decodes before it writes them."""
MAX_PER_PART = 128
"""Pictures that one worker decodes before it writes them."""


@dataclass(frozen=True)
class PictureFiles:
    """Pictures to cache."""

    items: Sequence[ImageRef]
    policy: ResizePolicy
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Name → one row for each item."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts to keep with the images, as JSON."""
    strict: bool = False
    """Raise UnreadablePictures if there is any."""
    shard_bytes: int = SHARD_BYTES
    max_per_part: int = MAX_PER_PART
    num_processes: int | None = None
    """Processes that decode; None: as many as there are processors, if the work takes longer than their start."""


def cache_pictures(title: str, key: Mapping[str, Any], describe: Callable[[], PictureFiles]) -> CachedImages:
    """Return the cached pictures of a key, decoded or completed first if necessary.

    ``key`` is everything that shapes the images, as JSON; ``describe`` is called only if pictures are decoded. Raises
    OSError if the disk is too small, UnreadablePictures if no picture can be decoded, or not all of a strict source.
    """
    found = find_or_make(title, key, lambda folder: _make(folder, title, describe()))
    if any(picture.is_worth_retry() for picture in found.manifest.skipped):
        return _retry(found, title, describe())
    return found


def _make(folder: Path, title: str, source: PictureFiles) -> None:
    making = part_folder(folder)
    shape = (len(source.items), source.policy.height, source.policy.width, source.policy.channels)
    files = PixelFiles(making, shape, source.shard_bytes, np.dtype(source.policy.dtype))
    parts = _decode_all(making, title, source, files)
    skipped = sorted(picture for part in parts for picture in part.skipped)
    if len(skipped) == len(source.items):
        shutil.rmtree(making)
    _check_skipped(skipped, source)
    content = Tally()
    for part in parts:
        content.merge(part.content)
    finish_entry(
        making, folder, files, source.columns, title=title, skipped=skipped, content=content, metadata=source.metadata
    )


def _check_skipped(skipped: Sequence[SkippedPicture], source: PictureFiles) -> None:
    """Raise UnreadablePictures if every picture was skipped, or any of a strict source."""
    if skipped and (source.strict or len(skipped) == len(source.items)):
        raise UnreadablePictures([(picture.name, picture.reason) for picture in skipped], len(source.items))


def _decode_all(making: Path, title: str, source: PictureFiles, files: PixelFiles) -> list[Part]:
    """Decode the pictures that the journal does not list yet; return all parts."""
    journal, count = making / JOURNAL, len(source.items)
    is_begun = files.are_begun()
    parts = read_journal(journal, count) if is_begun else []
    most = max(1, min(source.max_per_part, PART_BYTES // files.row_bytes))
    todo = dict(split_rows(count, parts, most, files.rows_per_file))
    num_todo = sum(stop - start for start, stop in todo.items())
    check_room(making, num_todo * files.row_bytes)
    write_journal(journal, parts)  # without an incomplete last line
    if not is_begun:
        files.create()
    jobs = [(start, source.items[start:stop], source.policy, files.locate(start)) for start, stop in todo.items()]
    with progress(f"caching {title}", count) as bar, journal.open("a", encoding="utf-8") as lines:
        bar.advance(count - num_todo)
        for start, problems, content in run_jobs(decoding.decode_part, jobs, source.num_processes):
            skipped = [describe_problem(row, problem, source.items[row]) for row, problem in problems.items()]
            parts.append(Part(start, todo[start], skipped, content))
            lines.write(to_line(parts[-1]))
            lines.flush()
            bar.advance(todo[start] - start)
    return parts


# -- completing -------------------------------------------------------------------------------------------------------


def _retry(found: CachedImages, title: str, source: PictureFiles) -> CachedImages:
    """Return the entry completed by the skipped pictures that can be decoded now.

    If there are none, only the facts about the skipped pictures are brought up to date.
    """
    folder, before = found.folder, found.manifest
    again = [picture.row for picture in before.skipped if picture.is_worth_retry()]
    if max(again) >= len(source.items):  # a key belongs to one set of pictures
        raise DamagedFile(folder / MANIFEST, "it names rows that do not exist", REMEDY)
    problems, _ = _try_all(f"{title} again", [source.items[row] for row in again], source.policy)
    failed = {again[i]: describe_problem(again[i], problem, source.items[again[i]]) for i, problem in problems.items()}
    recovered = set(again) - failed.keys()
    skipped = [failed.get(picture.row, picture) for picture in before.skipped if picture.row not in recovered]
    _check_skipped(skipped, source)
    if not recovered:
        manifest = before.model_copy(update={"skipped": skipped})
        if skipped != before.skipped:
            with suppress(OSError), locked(folder, title):  # a read-only cache: tried again the next time
                write_manifest(folder, manifest)
        return replace(found, manifest=manifest)
    with locked(folder, title):
        now = open_entry(folder)
        if now is not None and [picture.row for picture in now.manifest.skipped] == [
            picture.row for picture in before.skipped
        ]:  # no other process was faster
            _reopen(folder, before, again)
            _make(folder, title, source)
        return replace(reopen_entry(folder), num_recovered=len(recovered))


def _reopen(folder: Path, manifest: Manifest, missing: Sequence[int]) -> None:
    """Turn an entry back into one in the making, in which the rows ``missing`` are not done."""
    borders = [-1, *missing, manifest.shape[0]]
    kept = [picture for picture in manifest.skipped if picture.row not in missing]
    parts = [
        Part(before + 1, row, [picture for picture in kept if before < picture.row < row], Tally())
        for before, row in itertools.pairwise(borders)
        if before + 1 < row
    ]
    parts[0].content.merge(manifest.content)
    write_journal(folder / JOURNAL, parts)
    making = part_folder(folder)
    shutil.rmtree(making)
    folder.replace(making)


# -- without the cache ------------------------------------------------------------------------------------------------


def check_items(
    title: str, items: Sequence[ImageRef], policy: ResizePolicy
) -> tuple[list[tuple[ImageRef, str]], Tally]:
    """Return (item, reason) of the pictures that cannot be decoded, and facts about the others."""
    problems, content = _try_all(title, items, policy)
    return [(items[row], problem.reason) for row, problem in problems.items()], content


def _try_all(title: str, items: Sequence[ImageRef], policy: ResizePolicy) -> tuple[dict[int, Problem], Tally]:
    """Decode pictures as for the cache; return position → problem, and facts about the others."""
    problems, content = dict[int, Problem](), Tally()
    for _, found, tally in _run_parts(f"checking {title}", decoding.decode_part, items, policy):
        problems |= found
        content.merge(tally)
    return dict(sorted(problems.items())), content


def list_pages(items: Sequence[ImageRef]) -> list[list[int]]:
    """Return the page numbers of each file; none for a file that the operating system did not return."""
    found = sorted(_run_parts("counting pages", decoding.count_pages, items))
    return [pages for _, part in found for pages in part]


def _run_parts(label: str, function: Callable[..., Any], items: Sequence[ImageRef], *arguments: Any) -> Iterator[Any]:
    """Yield the results of a function of (first row, items, …) for parts of the items, and show progress."""
    parts = dict(split_rows(len(items), [], MAX_PER_PART))
    jobs = [(start, items[start:stop], *arguments) for start, stop in parts.items()]
    with progress(label, len(items)) as bar:
        for result in run_jobs(function, jobs):
            yield result
            bar.advance(parts[result[0]] - result[0])
