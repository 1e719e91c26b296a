"""The image cache: entries, their manifests and checksums, one process at a time.

An entry is a folder of decoded pixels. ``manifest.json`` holds a CRC-32 of each block of every other file, and one of
itself, so that no flipped bit goes unnoticed.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from vaelab.data.arrays import ArrayView, PixelArray
from vaelab.data.contents import Tally
from vaelab.data.images import Images
from vaelab.data.npy import open_pixels
from vaelab.system.device import available_memory, default_threads
from vaelab.system.files import DamagedFile, read_json, unique_path, write_atomic
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress

MANIFEST = "manifest.json"
BLOCK_BYTES = 1 << 22
"""Size of the blocks that have a checksum each."""
REMEDY = "remove it, vaelab makes it again from the pictures"


class Selection(BaseModel):
    """Which rows of a cache entry make its images."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """``Images.fingerprint`` of these rows."""
    rows_left_out: list[NonNegativeInt] = []
    left_out: list[tuple[str, str]] = []
    """(name, reason) of the pictures that could not be read."""


class Manifest(Selection):
    """The content of ``manifest.json``. Cache entries of vaelab 0.1 have neither shape nor checksums."""

    title: str
    num_files: int = Field(1, ge=1, le=1 << 20)
    shape: list[NonNegativeInt] | None = None
    """Of the array in the files, the rows left out included."""
    checksums: dict[str, list[NonNegativeInt]] | None = None
    """File → CRC-32 of each of its blocks."""
    unread: list[tuple[Any, Any]] = []
    """(file, signature of the failure) for each picture left out; ``picture_cache`` says what a signature is."""
    earlier: list[Selection] = []
    """The images before pictures became readable, newest first: runs that were trained on them go on with them."""
    content: Tally | None = None
    """What the pictures hold; cache entries of vaelab 0.1 do not say."""
    facts: dict[str, Any] = {}
    factor_names: list[str] = []
    factor_sizes: list[NonNegativeInt] = []
    check: str | None = None
    """CRC-32 of everything above."""

    @model_validator(mode="after")
    def _check_lengths(self) -> "Manifest":
        if not len(self.rows_left_out) == len(self.left_out) == len(self.unread):
            raise ValueError("rows, names and files of the pictures left out differ in number")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an entry; FileNotFoundError if there is none, DamagedFile if it was changed."""
    path = folder / MANIFEST
    facts = read_json(path, Manifest, remedy=REMEDY)
    if facts.check is not None and facts.check != _check(facts):
        raise DamagedFile(path, "its checksum does not match its content", REMEDY)
    return facts


def write_manifest(folder: Path, facts: Manifest) -> None:
    """Write ``manifest.json``, with its checksum."""
    content = {**facts.model_dump(exclude_defaults=True), "check": _check(facts)}
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def _check(facts: Manifest) -> str:
    content = facts.model_dump(exclude={"check"}, exclude_defaults=True)
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def open_rows(folder: Path, facts: Manifest, selection: Selection | None = None) -> tuple[PixelArray, Any]:
    """The pixels of a selection (default: the newest) as memory maps, and the numbers of its rows.

    DamagedFile if files and ``manifest.json`` do not fit each other.
    """
    whole = open_pixels(folder, facts.num_files, None if facts.shape is None else tuple(facts.shape), REMEDY)
    dropped = np.asarray((selection or facts).rows_left_out, np.int64)
    if len(dropped) and dropped.max() >= len(whole):
        raise DamagedFile(folder / MANIFEST, "it names rows that do not exist", REMEDY)
    kept = np.delete(np.arange(len(whole)), dropped)
    return (whole if len(kept) == len(whole) else ArrayView(whole, kept)), kept


# -- checksums --------------------------------------------------------------------------------------------------------


def add_checksums(folder: Path, facts: Manifest) -> Manifest:
    """``facts`` with the checksums of all other files in the folder."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".npy", ".npz"))
    return facts.model_copy(update={"checksums": {name: checksum_blocks(folder / name) for name in names}})


def checksum_blocks(path: Path) -> list[int]:
    """CRC-32 of each block of a file, computed by several threads.

    A CRC-32 differs for certain where up to 32 successive bits of a block or any two differ, and for other damage with
    probability 1 − 2⁻³².
    """
    size = path.stat().st_size
    fits = size < available_memory() // 2
    threads = min(default_threads(), 4)
    count = -(-size // BLOCK_BYTES)
    groups = np.array_split(np.arange(count), min(threads, max(count, 1)))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda group: _checksum_group(path, group.tolist(), keeps=fits), groups)
        return [crc for group in found for crc in group]


def _checksum_group(path: Path, blocks: list[int], *, keeps: bool) -> list[int]:
    """CRC-32 of some successive blocks; without ``keeps`` the page cache forgets them, and keeps what others use."""
    buffer, found = memoryview(bytearray(BLOCK_BYTES)), []
    with path.open("rb", buffering=0) as file:
        for block in blocks:
            file.seek(block * BLOCK_BYTES)
            length = 0
            while length < BLOCK_BYTES and (count := file.readinto(buffer[length:])):
                length += count
            found.append(zlib.crc32(buffer[:length]))
            if not keeps and hasattr(os, "posix_fadvise"):
                with suppress(OSError):
                    os.posix_fadvise(file.fileno(), block * BLOCK_BYTES, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
    return found


def verify_cached(folder: Path) -> None:
    """Read a whole cache entry and compare its checksums; DamagedFile names the first file that differs.

    The pixels of a cache entry without checksums are compared with its digest, and then it gets checksums.
    """
    facts = read_manifest(folder)
    pixels, _ = open_rows(folder, facts)
    names = [] if facts.checksums is None else sorted(facts.checksums)
    with progress("verifying the cache entry", len(names) or 1) as bar:
        for name in names:
            assert facts.checksums is not None
            if name != Path(name).name or not (folder / name).is_file():
                raise DamagedFile(folder / name, "it is missing", REMEDY)
            if checksum_blocks(folder / name) != facts.checksums[name]:
                raise DamagedFile(folder / name, "its checksum does not match its content", REMEDY)
            bar.advance(1)
        if facts.checksums is not None:
            return
        if Images(pixels).fingerprint() != facts.digest:
            raise DamagedFile(folder, "its pixels do not match its digest", REMEDY)
        with suppress(OSError):  # a read-only cache: the next run computes the digest again
            write_manifest(folder, add_checksums(folder, facts))
        bar.advance(1)


def set_aside(folder: Path) -> Path | None:
    """Rename a damaged entry, so that it is made again, and return the name; None if another process was faster."""
    with locked(folder, folder.name):
        try:
            verify_cached(folder)
            return None
        except FileNotFoundError:
            return None
        except DamagedFile:
            aside = unique_path(folder.with_name(f"{folder.name}.damaged"))
            folder.replace(aside)
            return aside


def unreadable(folder: Path) -> OSError:
    """What to raise if a cache entry that was just written cannot be read."""
    return OSError(f"{folder}: written, but cannot be read back; the disk may be failing. The same command tries again")


# -- the cache --------------------------------------------------------------------------------------------------------


def entry_folder(title: str, digest: str) -> Path:
    """The folder of a cache entry in the user's cache, whether it exists or not."""
    return cache_dir() / "images" / f"{title.split()[0]}-{digest}"


@contextmanager
def locked(folder: Path, title: str) -> Iterator[None]:
    """Hold a cache entry for one process; the others wait, and show that they do.

    OSError that names ``$XDG_CACHE_HOME`` if the cache cannot be written to.
    """
    with explain_cache():
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            with progress(f"waiting for another process that caches {title}", None):
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


@contextmanager
def explain_cache() -> Iterator[None]:
    """Within this context an OSError that says that the cache cannot be written to names ``$XDG_CACHE_HOME``."""
    try:
        yield
    except OSError as error:
        place = str(error.filename or "")
        if error.errno in (None, errno.ENOSPC) or not place.startswith(str(cache_dir())):
            raise
        reason = error.strerror or str(error)
        advice = "let $XDG_CACHE_HOME name a folder that can be written to"
        raise OSError(f"{place}: {reason}; {advice}") from None


def check_space(folder: Path, num_bytes: int) -> None:
    """OSError if the disk has no room for so many bytes and a margin."""
    needed = num_bytes + (1 << 24)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: caching needs {needed / 1e9:.2f} GB here and {free / 1e9:.2f} GB are free; free some space, or "
            "let $XDG_CACHE_HOME name a folder on a larger disk"
        )


def file_signature(path: Path) -> list[Any]:
    """Return path, size and time of change of a file or folder: a cache key that changes with its content."""
    state = path.stat()
    return [str(path.resolve()), state.st_size if path.is_file() else 0, state.st_mtime_ns]
