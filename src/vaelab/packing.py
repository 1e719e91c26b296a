"""Packs: pictures decoded once, into one uint8 array on the disk, for every later run.

A pack is a folder in the cache: ``pixels.npy``, ``columns.npz`` (labels, attributes) and ``pack.json``. While it is
made it has another name and a journal of the parts that are done, so that a killed process loses no more than the parts
in its hands.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vaelab import decoding
from vaelab.decoding import Framing, Item, shown
from vaelab.files import write_atomic
from vaelab.images import Images, PixelArray, Rows
from vaelab.runtime import cache_dir, default_threads, progress

VERSION = 1
"""Of what decoding and framing do: a change makes new packs."""
PIXELS, COLUMNS, FACTS, JOURNAL = "pixels.npy", "columns.npz", "pack.json", "journal.jsonl"
PART_BYTES = 1 << 24
"""Of pixels that one worker holds at a time."""
MOST_PER_PART = 512
FEW = 256
"""Pictures that are decoded in this process: others take a second to start."""


@dataclass(frozen=True)
class Source:
    """What is to be packed."""

    items: Sequence[Item]
    framing: Framing
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Name → one row for each item."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else should be known of it later, as JSON."""


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


def pack(title: str, key: Mapping[str, Any], describe: Callable[[], Source]) -> Pack:
    """The pack of this key, made first where it is not there yet, or not to its end.

    ``key`` is everything that shapes the result, as JSON; ``describe`` is called only where something is to be made.
    OSError where the disk is too small for it; ValueError where not one picture can be read.
    """
    name = title.split()[0]
    digest = hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()
    folder = cache_dir() / "packs" / f"{name}-{digest[:20]}"
    if not (folder / FACTS).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / FACTS).is_file():
                _make(folder, title, describe())
    return _open(folder)


def _open(folder: Path) -> Pack:
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    whole = np.load(folder / PIXELS, mmap_mode="r")
    rows = np.asarray(facts["rows_left_out"], np.int64)
    kept = np.delete(np.arange(len(whole)), rows)
    with np.load(folder / COLUMNS, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    return Pack(
        folder=folder,
        pixels=Rows(whole, kept) if len(rows) else whole,
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
    problems = _fill(making, title, source, shape)
    if len(problems) == len(source.items):
        shutil.rmtree(making)
        row, reason = problems[0]
        raise ValueError(
            f"none of {len(problems):,} pictures can be read (first: {shown(source.items[row])}: {reason})"
        )
    rows = [row for row, _ in problems]
    pixels = np.load(making / PIXELS, mmap_mode="r")
    with progress(f"checking {title}", len(pixels)) as bar:
        digest = Images(Rows(pixels, np.delete(np.arange(len(pixels)), rows))).fingerprint()
        bar.advance(len(pixels))
    columns = io.BytesIO()
    np.savez(columns, allow_pickle=False, **source.columns)
    write_atomic(making / COLUMNS, columns.getvalue())
    facts = {
        "title": title,
        "digest": digest,
        "rows_left_out": rows,
        "left_out": [(shown(source.items[row]), reason) for row, reason in problems],
        "facts": dict(source.facts),
    }
    write_atomic(making / FACTS, json.dumps(facts, indent=1) + "\n")
    (making / JOURNAL).unlink()
    making.replace(folder)


def _fill(making: Path, title: str, source: Source, shape: tuple[int, ...]) -> list[tuple[int, str]]:
    """Decode what the journal does not hold yet; (row, reason) of all pictures that cannot be read."""
    target, journal = making / PIXELS, making / JOURNAL
    row_bytes = int(np.prod(shape[1:]))
    size = max(1, min(MOST_PER_PART, PART_BYTES // row_bytes))
    header = _header(shape)
    done = _done(journal)
    if not target.is_file() or target.stat().st_size != len(header) + shape[0] * row_bytes:
        done = {}
    todo = [start for start in range(0, shape[0], size) if start not in done]
    _check_space(making, sum(min(size, shape[0] - start) for start in todo) * row_bytes)
    if not done:
        journal.unlink(missing_ok=True)
        with target.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + shape[0] * row_bytes)
    jobs = [
        (start, (str(target), len(header) + start * row_bytes, source.items[start : start + size], source.framing))
        for start in todo
    ]
    with progress(f"packing {title}", shape[0]) as bar, journal.open("a", encoding="utf-8") as file:
        bar.advance(shape[0] - sum(min(size, shape[0] - start) for start in todo))
        for start, found in _work(decoding.decode_into, jobs, sum(len(job[1][2]) for job in jobs)):
            done[start] = [(start + i, reason) for i, reason in found]
            file.write(json.dumps([start, done[start]]) + "\n")
            file.flush()
            bar.advance(min(size, shape[0] - start))
    return [problem for start in sorted(done) for problem in done[start]]


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of the ``.npy`` of uint8 values in this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _done(journal: Path) -> dict[int, list[tuple[int, str]]]:
    """First row → unreadable rows, of each part that is whole on the disk."""
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True) if journal.is_file() else []
    parts = [json.loads(line) for line in lines if line.endswith("\n")]
    return {start: [(row, reason) for row, reason in problems] for start, problems in parts}


def _check_space(folder: Path, needed: int) -> None:
    needed += 16 << 20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: packing needs {needed / 1e9:.2f} GB here and {free / 1e9:.2f} GB are free; free some space, or "
            "let $XDG_CACHE_HOME name a folder on a larger disk"
        )


def _work(
    function: Callable[..., Any], jobs: Sequence[tuple[int, tuple[Any, ...]]], num_items: int
) -> Iterator[tuple[int, Any]]:
    """(number, result) of every job, as they come: on all processors, a few items in this process."""
    processes = min(default_threads(), len(jobs))
    if num_items <= FEW or processes == 1:
        for number, arguments in jobs:
            yield number, function(*arguments)
        return
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = joblib.Parallel(
        n_jobs=processes, backend="loky", return_as="generator_unordered", pre_dispatch=2 * processes, max_nbytes=None
    )
    try:
        yield from parallel(joblib.delayed(_numbered)(function, number, arguments) for number, arguments in jobs)
    except TerminatedWorkerError:
        raise RuntimeError(
            "a process that decoded pictures was killed, most likely for want of memory; the same command goes on"
        ) from None
    finally:
        get_reusable_executor().shutdown(wait=True)


def _numbered(function: Callable[..., Any], number: int, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    return number, function(*arguments)


# -- looking ----------------------------------------------------------------------------------------------------------


def check_items(title: str, items: Sequence[Item], framing: Framing) -> list[tuple[Item, str]]:
    """(item, reason) of the pictures that cannot be read, each of them decoded as packing would."""
    size = MOST_PER_PART
    jobs = [(start, (items[start : start + size], framing)) for start in range(0, len(items), size)]
    found: dict[int, list[tuple[int, str]]] = {}
    with progress(f"checking {title}", len(items)) as bar:
        for start, problems in _work(decoding.examine, jobs, len(items)):
            found[start] = problems
            bar.advance(min(size, len(items) - start))
    return [(items[start + i], reason) for start in sorted(found) for i, reason in found[start]]


def stamp(path: Path) -> list[Any]:
    """What tells that a file or folder has changed: path, size, time of change."""
    state = path.stat()
    return [str(path.resolve()), state.st_size if path.is_file() else 0, state.st_mtime_ns]
