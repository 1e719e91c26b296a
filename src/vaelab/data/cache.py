"""The image cache: decoded pixels on the disk, with checksums, made by one process at a time.

An entry is a folder with ``pixels.npy`` (several files if it is large), ``columns.npz`` (labels, attributes or factors,
one row for each picture) and ``manifest.json``. The manifest holds a CRC-32 of each block of the other files, and one
of itself. The name of the folder ends in ``.part`` until the entry is complete.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from vaelab.data.arrays import ArrayView, PixelArray
from vaelab.data.containers import UnreadablePictures
from vaelab.data.contents import Tally
from vaelab.data.images import Images
from vaelab.data.journal import JOURNAL, SkippedPicture
from vaelab.data.npy import PixelFiles, open_pixels, read_npz
from vaelab.system.files import DamagedFile, check_free_space, read_json, unique_path, write_atomic
from vaelab.system.machine import available_memory, default_threads
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress

VERSION = 1
"""Part of every key; increase it when decoding, resizing or the layout of an entry change."""
MANIFEST, COLUMNS = "manifest.json", "columns.npz"
SHARD_BYTES = 1 << 32
"""Size of one file of pixels; larger entries have several."""
BLOCK_BYTES = 1 << 22
"""Size of the blocks that have a checksum each."""
MAX_COLUMN_BYTES = 1 << 32
"""Larger columns are taken for damage."""
REMEDY = "remove it, vaelab makes it again from the images"
ADVICE = "let $XDG_CACHE_HOME name a folder"


class Earlier(BaseModel):
    """The images of an entry before pictures became readable: runs that were trained on them resume on them."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """``Images.fingerprint`` of the images."""
    skipped_rows: list[NonNegativeInt]


class Manifest(BaseModel):
    """The content of ``manifest.json``."""

    model_config = ConfigDict(extra="forbid")

    title: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """``Images.fingerprint`` of the images."""
    shape: list[NonNegativeInt]
    """Shape of the array in the files, with a row for every skipped picture."""
    num_files: int = Field(ge=1, le=1 << 20)
    checksums: dict[str, list[NonNegativeInt]] = {}
    """File → CRC-32 of each of its blocks."""
    skipped: list[SkippedPicture] = []
    earlier: list[Earlier] = []
    """Newest first."""
    content: Tally = Field(default_factory=Tally)
    metadata: dict[str, Any] = {}
    """Facts of the data set."""
    check: str = ""
    """CRC-32 of everything above."""

    def compute_check(self) -> str:
        """Return the CRC-32 of the manifest."""
        content = self.model_dump(exclude={"check"})
        return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


@dataclass(frozen=True)
class CachedImages:
    """An entry of the cache, opened: pixels as memory maps, columns in memory."""

    folder: Path
    manifest: Manifest
    digest: str
    """The fingerprint of the images."""
    pixels: PixelArray
    columns: dict[str, NDArray[Any]]
    rows: NDArray[np.int64]
    """Rows of the source that the images come from."""
    num_recovered: int = 0
    """Pictures that were skipped before and could be decoded now."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def num_skipped(self) -> int:
        """Number of pictures that could not be decoded."""
        return len(self.manifest.skipped)

    def describe_skipped(self) -> str:
        """Return how many pictures were skipped and the first of them; empty if there are none."""
        skipped = [(picture.name, picture.reason) for picture in self.manifest.skipped]
        return str(UnreadablePictures(skipped, self.manifest.shape[0])) if skipped else ""

    def describe_recovered(self) -> str:
        """Return how many pictures were recovered; empty if there are none."""
        if not self.num_recovered:
            return ""
        count = "1 image" if self.num_recovered == 1 else f"{self.num_recovered:,} images"
        return f"{count} that could not be read before can be read now and were added to the cache"


def find_or_make(
    title: str, key: Mapping[str, Any], make: Callable[[Path], None], *, version: int = VERSION
) -> CachedImages:
    """Return the entry of a key; if it is missing or damaged, ``make(folder)`` makes it first.

    ``key`` is everything that shapes the images, as JSON. OSError if the cache cannot be written to.
    """
    text = json.dumps({"version": version, **key}, sort_keys=True)
    folder = cache_dir() / "images" / f"{title.split()[0]}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    found = open_entry(folder)
    if found is None:
        with locked(folder, title):
            found = open_entry(folder)
            if found is None:
                make(folder)
                found = reopen_entry(folder)
    return found


def open_entry(folder: Path, digest: str | None = None) -> CachedImages | None:
    """Open an entry with its newest images, or those of a fingerprint; None if there are none or they are damaged."""
    try:
        manifest = read_manifest(folder)
        skipped_rows = {manifest.digest: [picture.row for picture in manifest.skipped]}
        skipped_rows |= {earlier.digest: earlier.skipped_rows for earlier in manifest.earlier}
        digest = manifest.digest if digest is None else digest
        if digest not in skipped_rows:
            return None
        whole = open_pixels(folder, manifest.num_files, tuple(manifest.shape), REMEDY)
        rows = np.delete(np.arange(len(whole)), skipped_rows[digest])  # IndexError: no such rows
        columns = _read_columns(folder, manifest)
    except (OSError, ValueError, IndexError):
        return None
    pixels = whole if len(rows) == len(whole) else ArrayView(whole, rows)
    return CachedImages(folder, manifest, digest, pixels, {n: c[rows] for n, c in columns.items()}, rows)


def reopen_entry(folder: Path) -> CachedImages:
    """Open an entry that was just written; OSError if that fails."""
    found = open_entry(folder)
    if found is None:
        raise OSError(
            f"{folder}: written, but cannot be read back; the disk may be failing. Run the same command again"
        )
    return found


def find_entry(name: str, digest: str) -> CachedImages | None:
    """Find the images with a fingerprint in the entry whose folder has this name; None if there are none."""
    is_name = name == Path(name).name and name not in ("", ".", "..")
    return open_entry(cache_dir() / "images" / name, digest) if is_name else None


def select_earlier(images: Images, digest: str) -> Images | None:
    """Return the images with another fingerprint from the same entry: those before pictures became readable."""
    found = None if images.cache_folder is None else open_entry(images.cache_folder, digest)
    columns: Any = None if found is None else found.columns
    return None if found is None else replace(images, pixels=found.pixels, digest=digest, **columns)


def _read_columns(folder: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    path = folder / COLUMNS
    if checksum_blocks(path) != manifest.checksums.get(COLUMNS):
        raise DamagedFile(path, "its checksum does not match its content", REMEDY)
    columns = read_npz(path, max_bytes=MAX_COLUMN_BYTES)
    if any(column.ndim == 0 or len(column) != manifest.shape[0] for column in columns.values()):
        raise DamagedFile(path, "it has another number of rows than the pixels", REMEDY)
    return columns


# -- making -----------------------------------------------------------------------------------------------------------


def part_folder(folder: Path, *, is_new: bool = False) -> Path:
    """Return the folder in which an entry is made, created if it does not exist; emptied if ``is_new``."""
    part = folder.with_name(f"{folder.name}.part")
    if is_new:
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    return part


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise DiskFull if the disk has no room for the pixels of an entry and a margin."""
    check_free_space(folder, num_bytes + (1 << 24), "the image cache", f"{ADVICE} on a larger disk")


def finish_entry(
    part: Path,
    folder: Path,
    files: PixelFiles,
    columns: Mapping[str, NDArray[Any]],
    *,
    title: str,
    skipped: Sequence[SkippedPicture] = (),
    content: Tally | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write columns and manifest beside the pixels and give the entry its name; a damaged one is replaced."""
    pixels = open_pixels(part, files.num_files)
    rows = np.delete(np.arange(len(pixels)), [picture.row for picture in skipped])
    with progress(f"checking {title}", len(rows)) as bar:
        digest = Images(ArrayView(pixels, rows) if skipped else pixels).fingerprint()
        bar.advance(len(rows))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **columns)
    write_atomic(part / COLUMNS, buffer.getvalue())
    names = sorted(path.name for path in part.iterdir() if path.suffix in (".npy", ".npz"))
    manifest = Manifest(
        title=title,
        digest=digest,
        shape=list(files.shape),
        num_files=files.num_files,
        checksums={name: checksum_blocks(part / name) for name in names},
        skipped=list(skipped),
        earlier=_list_earlier(part, digest),
        content=content or Tally(),
        metadata=dict(metadata or {}),
    )
    write_manifest(part, manifest)
    (part / JOURNAL).unlink(missing_ok=True)
    if folder.exists():  # damaged
        shutil.rmtree(folder)
    part.replace(folder)


def _list_earlier(part: Path, digest: str) -> list[Earlier]:
    """Return the images of an entry that is being completed, and those before them."""
    try:
        before = read_manifest(part)
    except (OSError, DamagedFile):
        return []
    last = Earlier(digest=before.digest, skipped_rows=[picture.row for picture in before.skipped])
    return [earlier for earlier in (last, *before.earlier) if earlier.digest != digest]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an entry; FileNotFoundError if there is none, DamagedFile if it was changed."""
    path = folder / MANIFEST
    manifest = read_json(path, Manifest, remedy=REMEDY)
    if manifest.check != manifest.compute_check():
        raise DamagedFile(path, "its checksum does not match its content", REMEDY)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an entry, with its checksum."""
    content = {**manifest.model_dump(), "check": manifest.compute_check()}
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


@contextmanager
def locked(folder: Path, title: str) -> Iterator[None]:
    """Lock an entry for one process; others wait, and show that they do.

    OSError that names ``$XDG_CACHE_HOME`` if the cache cannot be written to.
    """
    try:
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
    except OSError as error:
        place = str(error.filename or "")
        if error.errno in (None, errno.ENOSPC) or not place.startswith(str(cache_dir())):
            raise
        raise OSError(f"{place}: {error.strerror or error}; {ADVICE} that can be written to") from None


# -- checksums --------------------------------------------------------------------------------------------------------


def checksum_blocks(path: Path) -> list[int]:
    """Return the CRC-32 of each block of a file, computed by several threads.

    A CRC-32 detects every error of up to 32 successive bits of a block and every two wrong bits, and any other damage
    with probability 1 − 2⁻³².
    """
    size = path.stat().st_size
    fits = size < available_memory() // 2
    threads = min(default_threads(), 4)
    count = -(-size // BLOCK_BYTES)
    groups = np.array_split(np.arange(count), min(threads, max(count, 1)))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda group: _checksum_group(path, group.tolist(), keep_cached=fits), groups)
        return [crc for group in found for crc in group]


def _checksum_group(path: Path, blocks: list[int], *, keep_cached: bool) -> list[int]:
    """Return the CRC-32 of some blocks; without ``keep_cached`` they are dropped from the page cache."""
    buffer, found = memoryview(bytearray(BLOCK_BYTES)), []
    with path.open("rb", buffering=0) as file:
        for block in blocks:
            file.seek(block * BLOCK_BYTES)
            length = 0
            while length < BLOCK_BYTES and (count := file.readinto(buffer[length:])):
                length += count
            found.append(zlib.crc32(buffer[:length]))
            if not keep_cached and hasattr(os, "posix_fadvise"):
                with suppress(OSError):
                    os.posix_fadvise(file.fileno(), block * BLOCK_BYTES, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
    return found


def verify_entry(folder: Path) -> None:
    """Read a whole entry and compare its checksums; DamagedFile names the first file that differs.

    Training calls this when it starts and when it resumes. Damage that happens during training is found when the run is
    resumed, not before.
    """
    manifest = read_manifest(folder)
    with progress("verifying the image cache", len(manifest.checksums)) as bar:
        for name in sorted(manifest.checksums):
            if name != Path(name).name or not (folder / name).is_file():
                raise DamagedFile(folder / name, "it is missing", REMEDY)
            if checksum_blocks(folder / name) != manifest.checksums[name]:
                raise DamagedFile(folder / name, "its checksum does not match its content", REMEDY)
            bar.advance(1)


def set_aside(folder: Path) -> Path | None:
    """Rename a damaged entry, so that it is made again, and return the name; None if another process was faster."""
    with locked(folder, folder.name):
        try:
            verify_entry(folder)
        except FileNotFoundError:
            return None
        except DamagedFile:
            aside = unique_path(folder.with_name(f"{folder.name}.damaged"))
            folder.replace(aside)
            return aside
    return None


def file_signature(path: Path) -> list[Any]:
    """Return path, size and time of change of a file or folder: a cache key that changes with its content."""
    state = path.stat()
    return [str(path.resolve()), state.st_size if path.is_file() else 0, state.st_mtime_ns]
