"""Packs: pictures decoded once, into one uint8 array on the disk, for every later run.

A pack is a folder in the cache: ``pixels.npy`` (a large one has ``pixels-00000.npy`` and so on), ``columns.npz``
(labels, attributes) and ``pack.json``. While it is made it has another name and a journal of the parts that are done,
so that a killed process loses no more than the parts in its hands.
"""

import hashlib
import io
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from vaelab.data import decode as decoding
from vaelab.data.arrays import PixelArray, Rows
from vaelab.data.containers import Item, printable, shown
from vaelab.data.decode import Framing, Problem
from vaelab.data.images import Images
from vaelab.data.npy import PixelFiles, open_pixels
from vaelab.system.device import cache_dir, default_threads, progress
from vaelab.system.files import write_atomic

VERSION = 3
"""Of what decoding and framing do: a change makes new packs."""
COLUMNS, FACTS, JOURNAL = "columns.npz", "pack.json", "journal.jsonl"
SHARD_BYTES = 1 << 32
"""Of pixels in one file; packs with more have several."""
PART_BYTES = 1 << 24
"""Of pixels that one worker holds at a time."""
FEWEST_PER_PART, MOST_PER_PART = 8, 128
ALONE_SECONDS = 1.0
"""For so long this process decodes alone; others take as long to start."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class CannotRead(ValueError):
    """Pictures that were to be packed cannot be read; the message counts them and names the first."""


@dataclass(frozen=True)
class Source:
    """What is to be packed."""

    items: Sequence[Item]
    framing: Framing
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Name → one row for each item."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else should be known of it later, as JSON."""
    strict: bool = False
    """Make nothing while there is a picture that cannot be read."""


@dataclass(frozen=True)
class Pack:
    """Decoded pictures on the disk."""

    folder: Path
    pixels: PixelArray
    columns: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    digest: str
    """The fingerprint of the images."""
    left_out: list[tuple[str, str]]
    """(name, reason) of the pictures that could not be read."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def loss(self) -> str:
        """How many pictures are left out, and the first of them; empty where there are none."""
        return _loss(self.left_out, len(self) + len(self.left_out)) if self.left_out else ""


def _loss(left_out: Sequence[tuple[str, str]], total: int) -> str:
    name, reason = left_out[0]
    return f"{len(left_out):,} of {total:,} pictures cannot be read (first: {name}: {reason})"


def pack(title: str, key: Mapping[str, Any], describe: Callable[[], Source]) -> Pack:
    """The pack of this key, made first where it is not there yet, or not to its end.

    ``key`` is everything that shapes the result, as JSON; ``describe`` is called only where something is to be made.
    OSError where the disk is too small for it; CannotRead where not one picture can be read, or one of a strict source.
    """
    folder = cache_dir() / "packs" / f"{title.split()[0]}-{_digest(key)}"
    packed = _open(folder)
    if packed is None:
        with _locked(folder, title):
            packed = _open(folder)
            if packed is None:
                _make(folder, title, describe())
                packed = _open(folder)
                assert packed is not None
    return packed


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()[:20]


def remembered(key: Mapping[str, Any], find_out: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A few facts, as JSON, that are found out once for a key and kept in the cache."""
    path = cache_dir() / "packs" / f"facts-{_digest(key)}.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = find_out()
        write_atomic(path, json.dumps(facts))
    return facts


@contextmanager
def _locked(folder: Path, title: str) -> Iterator[None]:
    """For one process at a time; the others wait, and see that they do."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.1)
    except Timeout:
        with progress(f"waiting for another process that packs {title}", None):
            lock.acquire()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{folder.parent}: {reason}; let $XDG_CACHE_HOME name a folder that can be written to") from None
    try:
        yield
    finally:
        lock.release()


def _open(folder: Path) -> Pack | None:
    """The pack in a folder; None where there is none, where it is damaged or where what was left out has changed."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if any(_state(path) != state for path, state in facts["unread"]):
            return None
        whole = open_pixels(folder, facts.get("num_files", 1))
        kept = np.delete(np.arange(len(whole)), np.asarray(facts["rows_left_out"], np.int64))
        with (folder / COLUMNS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None
    return Pack(
        folder=folder,
        pixels=whole if len(kept) == len(whole) else Rows(whole, kept),
        columns={name: column[kept] for name, column in columns.items()},
        facts=facts["facts"],
        digest=facts["digest"],
        left_out=[(name, reason) for name, reason in facts["left_out"]],
    )


# -- making -----------------------------------------------------------------------------------------------------------


def _make(folder: Path, title: str, source: Source) -> None:
    making = folder.with_name(f"{folder.name}.part")
    making.mkdir(parents=True, exist_ok=True)
    shape = (len(source.items), source.framing.height, source.framing.width, source.framing.channels)
    files = PixelFiles(making, shape, SHARD_BYTES)
    problems = _fill(making, title, source, files)
    left_out = [(shown(source.items[row]), printable(reason)) for row, reason in problems]
    if len(problems) == len(source.items):
        shutil.rmtree(making)
    if problems and (source.strict or not making.exists()):
        raise CannotRead(_loss(left_out, len(source.items)))
    rows = [row for row, _ in problems]
    pixels = open_pixels(making, files.num_files)
    kept = Rows(pixels, np.delete(np.arange(len(pixels)), rows)) if rows else pixels
    with progress(f"checking {title}", len(kept)) as bar:
        digest = Images(kept).fingerprint()
        bar.advance(len(kept))
    columns = io.BytesIO()
    np.savez(columns, allow_pickle=False, **source.columns)
    write_atomic(making / COLUMNS, columns.getvalue())
    facts = {
        "title": title,
        "digest": digest,
        "rows_left_out": rows,
        "left_out": left_out,
        "unread": [(path, _state(path)) for path in (_path(source.items[row]) for row in rows)],
        "facts": dict(source.facts),
        **({"num_files": files.num_files} if files.num_files > 1 else {}),
    }
    write_atomic(making / FACTS, json.dumps(facts, indent=1) + "\n")
    (making / JOURNAL).unlink()
    if folder.exists():  # damaged, or made when a picture left out was another
        shutil.rmtree(folder)
    making.replace(folder)


def _fill(making: Path, title: str, source: Source, files: PixelFiles) -> list[Problem]:
    """Decode what the journal does not hold yet; (row, reason) of all pictures that cannot be read."""
    journal, count = making / JOURNAL, len(source.items)
    begun = files.are_begun()
    done = _done(journal, source.items) if begun else []
    most = max(1, min(MOST_PER_PART, PART_BYTES // files.row_bytes))
    todo = dict(_parts(count, done, most, files.rows_per_file))
    num_todo = sum(stop - start for start, stop in todo.items())
    _check_space(making, num_todo * files.row_bytes)
    write_atomic(journal, "".join(json.dumps(line) + "\n" for line in done))  # without half a line at its end
    if not begun:
        files.create()
    jobs = [(start, *files.locate(start), source.items[start:stop], source.framing) for start, stop in todo.items()]
    with progress(f"packing {title}", count) as bar, journal.open("a", encoding="utf-8") as file:
        bar.advance(count - num_todo)
        for start, found in _work(decoding.decode_into, jobs):
            problems = [(start + i, reason, _state(_path(source.items[start + i]))) for i, reason in found]
            done.append((start, todo[start], problems))
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
            bar.advance(todo[start] - start)
    return sorted((row, reason) for _, _, problems in done for row, reason, _ in problems)


Done = tuple[int, int, list[tuple[int, str, Any]]]
"""First row of a part that is on the disk, the row after its last, and (row, reason, state) of unread pictures."""


def _done(journal: Path, items: Sequence[Item]) -> list[Done]:
    """What a journal holds, but for half a line and for parts with unread pictures that have changed since."""
    done: list[Done] = []
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else ():
        try:
            start, stop, problems = json.loads(line)
        except ValueError:
            continue
        if all(_state(_path(items[row])) == state for row, _, state in problems):
            done.append((start, stop, [(row, reason, state) for row, reason, state in problems]))
    return done


def _parts(count: int, done: Sequence[Done], most: int, border: int | None = None) -> Iterator[tuple[int, int]]:
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


def _path(item: Item) -> str:
    """The file on the disk that an item is read from."""
    container, name = item
    return os.path.abspath(os.path.join(container, name) if Path(container).is_dir() else container)  # noqa: PTH100, PTH118


def _state(path: str) -> list[int] | None:
    """Size and time of change of a file; None if it is not there."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def _check_space(folder: Path, needed: int) -> None:
    needed += 16 << 20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: packing needs {needed / 1e9:.2f} GB here and {free / 1e9:.2f} GB are free; free some space, or "
            "let $XDG_CACHE_HOME name a folder on a larger disk"
        )


Work = Callable[..., tuple[int, list[Problem]]]


def _work(function: Work, jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, list[Problem]]]:
    """The result of every job, as they come: this process begins, and what takes longer is shared by all processors."""
    began, processes = time.monotonic(), default_threads()
    for i, job in enumerate(jobs):
        if processes > 1 and len(jobs) - i > 1 and time.monotonic() - began >= ALONE_SECONDS:
            yield from _work_together(function, jobs[i:], min(processes, len(jobs) - i))
            return
        yield function(*job)


def _work_together(
    function: Work, jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[int, list[Problem]]]:
    from joblib.externals.loky import FIRST_COMPLETED, BrokenProcessPool, ProcessPoolExecutor, wait

    pool = ProcessPoolExecutor(processes, env=ONE_THREAD, initializer=decoding.begin_worker, initargs=(os.getpid(),))
    todo, is_whole = iter(jobs), False
    try:
        running = {pool.submit(function, *job) for job in itertools.islice(todo, 2 * processes)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
                running |= {pool.submit(function, *job) for job in itertools.islice(todo, 1)}
        is_whole = True
    except BrokenProcessPool:
        raise RuntimeError(
            "a process that decoded pictures was killed, most likely for want of memory; the same command goes on"
        ) from None
    finally:
        for worker in () if is_whole else list(pool._processes.values()):
            worker.terminate()  # what the pool has for this waits, or fails where the system lacks a program
        pool.shutdown(wait=True)


# -- looking ----------------------------------------------------------------------------------------------------------


def check_items(title: str, items: Sequence[Item], framing: Framing) -> list[tuple[Item, str]]:
    """(item, reason) of the pictures that cannot be read, each of them decoded as packing would."""
    parts = dict(_parts(len(items), [], MOST_PER_PART))
    found: dict[int, list[Problem]] = {}
    with progress(f"checking {title}", len(items)) as bar:
        for start, problems in _work(
            decoding.examine, [(start, items[start:stop], framing) for start, stop in parts.items()]
        ):
            found[start] = problems
            bar.advance(parts[start] - start)
    return [(items[start + i], reason) for start in sorted(found) for i, reason in found[start]]


def stamp(path: Path) -> list[Any]:
    """What tells that a file or folder has changed: path, size, time of change."""
    state = path.stat()
    return [str(path.resolve()), state.st_size if path.is_file() else 0, state.st_mtime_ns]
