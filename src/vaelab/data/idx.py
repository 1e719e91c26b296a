"""IDX: the format of MNIST and its relatives, and the data sets that come as four files of it.

Four files (``train-images-idx3-ubyte`` …, gzipped or not) in the folder given or where torchvision and Keras leave
them, or Keras's ``.npz``; else they are downloaded.
"""

import gzip
import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.images import DatasetInfo, Images
from vaelab.data.npy import NpyHeader, Reader, names_in_npz, read_exactly, read_npz
from vaelab.system.download import DownloadFailed, fetch
from vaelab.system.files import check_file
from vaelab.system.paths import cache_dir, data_roots

UINT8 = 0x08
GZIP = b"\x1f\x8b"
SPLIT_PREFIX = {"train": "train", "test": "t10k"}
NUM_AXES = {"images-idx3-ubyte": 3, "labels-idx1-ubyte": 1}
"""Last part of a file's name → axes of the array in it."""
MAX_BYTES = 1 << 30
"""Larger arrays are refused; the images of MNIST have 47 million values."""


def parse_idx(content: bytes, where: str) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file of unsigned bytes; ValueError as ``read_idx``."""
    return read_idx(io.BytesIO(content), where)


def read_idx(file: Reader, where: str, num_axes: int | None = None) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes; ValueError says what is wrong with ``where``.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit number, then
    the values in C order. The header is read first: an array with other than ``num_axes`` axes or more than
    ``MAX_BYTES`` is refused before its values are unpacked, and no more than one byte beyond them is read.
    """
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UINT8 or start[3] == 0:
        raise ValueError(f"{where}: not an IDX file of bytes (it starts with {start.hex(' ') or 'nothing'})")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise ValueError(f"{where}: truncated within its header ({4 + len(sizes)} of {4 + 4 * start[3]} bytes)")
    shape = struct.unpack(f">{start[3]}I", sizes)
    if num_axes is not None and len(shape) != num_axes:
        raise ValueError(f"{where}: an array of {num_axes} axes is needed; its header declares {list(shape)}")
    count = math.prod(shape)
    promise = f"{where}: its header declares {'×'.join(map(str, shape))} = {count:,} values"
    if count > MAX_BYTES:
        raise ValueError(f"{promise}; {MAX_BYTES:,} are the limit")
    try:
        return read_exactly(file, count).reshape(shape)
    except ValueError as error:  # also more dimensions than NumPy has
        raise ValueError(f"{promise}; {error}") from None


def write_idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an IDX file that holds ``array``."""
    header = bytes([0, 0, UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array).tobytes()


@contextmanager
def open_unpacked(path: Path) -> Iterator[Reader]:
    """A file, decompressed while it is read if it is gzipped, whatever its name says.

    ValueError if it is a damaged gzip or not a regular file.
    """
    check_file(path)
    with path.open("rb") as file, _gzip_errors(str(path)):
        is_gzipped = file.read(2) == GZIP
        file.seek(0)
        if not is_gzipped:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def unpack(stored: bytes, where: str) -> bytes:
    """The content of a file, decompressed if it is gzipped; ValueError if it is more than ``MAX_BYTES``."""
    return _decompress(stored, where) if stored[:2] == GZIP else stored


def _decompress(stored: bytes, where: str) -> bytes:
    with _gzip_errors(where), gzip.GzipFile(fileobj=io.BytesIO(stored)) as unpacked:
        content = unpacked.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{where}: it unpacks to more than {MAX_BYTES:,} bytes")
    return content


@contextmanager
def _gzip_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{where}: damaged or truncated gzip file ({error})") from None


@dataclass(frozen=True)
class Mirrored:
    """One file of a data set as its authors publish it."""

    name: str
    content_sha256: str | None = None
    """Of the decompressed bytes."""
    archive_sha256: str | None = None
    """Of the gzipped bytes, where the digest of the content is not published."""

    def check(self, content: bytes) -> None:
        """ValueError if a downloaded ``.gz`` is not this file."""
        given, wanted = content, self.archive_sha256
        if self.content_sha256 is not None:
            given, wanted = _decompress(content, self.name), self.content_sha256
        if hashlib.sha256(given).hexdigest() != wanted:
            raise ValueError(f"{len(content)} bytes with another SHA-256 than {self.name} has")

    def is_published(self, path: Path, array: NDArray[np.uint8]) -> bool | None:
        """Whether a file and the array in it are this one; None where the known digests cannot tell."""
        if self.content_sha256 is not None:
            return hashlib.sha256(write_idx(array)).hexdigest() == self.content_sha256
        with path.open("rb") as file:
            if file.read(2) != GZIP:
                return None
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest() == self.archive_sha256


@dataclass(frozen=True)
class IdxSet:
    """A data set of four IDX files."""

    name: str
    about: DatasetInfo
    files: tuple[Mirrored, ...]
    mirrors: tuple[str, ...]
    folders: tuple[str, ...]
    """Folder names below a data root in which others leave these files."""
    npz: tuple[str, ...] = ()
    """Keras's single file."""
    label_names: tuple[str, ...] = field(default_factory=lambda: tuple("0123456789"))

    def load(self, data_dir: Path | None, split: str) -> Images:
        """The images of ``split`` ("train" or "test"), downloaded first where they lie nowhere."""
        if split not in SPLIT_PREFIX:
            raise ValueError(f"{self.name} is published with the splits train and test; there is no split {split!r}")
        found = self.find(data_dir)
        if found is None and data_dir is not None:
            raise FileNotFoundError(
                f"{data_dir}: no files of {self.name} here or in {', '.join(self.folders)} below it. {self._advice()}; "
                f"or leave --data out to download them"
            )
        if found is None:
            found = self.get(None)
        try:
            pixels, labels, notes = self._read(found, split)
        except ValueError as error:
            ours = found == cache_dir() / self.name
            raise ValueError(f"{error}; vaelab data get {self.name} replaces it" if ours else str(error)) from None
        source = str(found if found.is_file() else found.resolve())
        return Images(pixels, labels, self.label_names, source=source, notes=tuple(notes))

    def get(self, target: Path | None) -> Path:
        """Download what is missing to ``target`` (None: the user's cache, where damaged files are replaced too)."""
        folder = target if target is not None else cache_dir() / self.name
        for file in self.files:
            path = _present(folder, file.name)
            if not path.exists() or (target is None and not self._is_whole(path, file)):
                path = folder / f"{file.name}.gz"
                try:
                    fetch([f"{mirror}{file.name}.gz" for mirror in self.mirrors], path, file.check)
                except DownloadFailed as error:
                    raise DownloadFailed(f"{self.name} could not be downloaded ({error}). {self._advice()}") from None
        return folder

    def check(self, folder: Path) -> Iterator[tuple[str, str]]:
        """(file, "ok" … or what is wrong with it) for each file of this data set that lies in or below ``folder``."""
        found = self._search(folder)
        if found is None:
            raise FileNotFoundError(f"{folder}: no files of {self.name} here. {self._advice()}")
        for file in () if found.is_file() else self.files:
            path = _present(found, file.name)
            yield str(path), _verdict(lambda path=path, file=file: self._check_file(path, file))
        for split in SPLIT_PREFIX:
            yield f"{split} split", _verdict(lambda split=split: self._read(found, split))

    def _check_file(self, path: Path, file: Mirrored) -> str:
        published = file.is_published(path, _read_idx(path))
        if published is None:
            return "ok (readable; only the digest of the .gz is published, so the content was not compared)"
        return "ok" if published else f"readable, but not the published {file.name}"

    def _is_whole(self, path: Path, file: Mirrored) -> bool:
        try:
            return file.is_published(path, _read_idx(path)) is not False
        except ValueError:
            return False

    def _advice(self) -> str:
        names = ", ".join(f"{file.name}.gz" for file in self.files)
        return f"Put {names} into a folder, unpacked or not, and name it with --data"

    def find(self, data_dir: Path | None) -> Path | None:
        """The folder with the four files, or the ``.npz``, in the places that count; None if it is in none of them."""
        return next(filter(None, (self._search(root) for root in data_roots(data_dir))), None)

    def _search(self, root: Path) -> Path | None:
        if root.is_file():
            return root if root.suffix == ".npz" and _is_keras(root) else None
        for folder in (root, *(root / name for name in self.folders)):
            if all(_present(folder, file.name).exists() for file in self.files):
                return folder
            for name in self.npz:
                if (folder / name).is_file():
                    return folder / name
        return None

    def _read(self, found: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
        """Pixels ``[N, H, W, 1]``, labels ``[N]`` and notes of one split, checked against each other."""
        labels_path = found
        if found.is_file():
            pixels, labels, notes = _read_npz(found, split)
        else:
            prefix = SPLIT_PREFIX[split]
            labels_path = _present(found, f"{prefix}-labels-idx1-ubyte")
            (pixels, pixel_notes), (labels, label_notes) = (
                self._read_file(found, f"{prefix}-{kind}") for kind in NUM_AXES
            )
            notes = pixel_notes + label_notes
        if pixels.ndim != 3 or labels.ndim != 1:
            raise ValueError(
                f"{found}: the {split} split needs images [N, H, W] and labels [N]; "
                f"got {list(pixels.shape)} and {list(labels.shape)}"
            )
        if len(pixels) != len(labels):
            raise ValueError(f"{found}: {len(pixels)} images but {len(labels)} labels in the {split} split")
        wrong = labels[(labels < 0) | (labels >= len(self.label_names))]
        if len(wrong):
            raise ValueError(f"{labels_path}: label {wrong[0]} in the {split} split; {self.name} has 0 … 9")
        return pixels[..., None], labels.astype(np.int64), notes

    def _read_file(self, folder: Path, name: str) -> tuple[NDArray[np.uint8], list[str]]:
        path = _present(folder, name)
        array = _read_idx(path, NUM_AXES[name.partition("-")[2]])
        file = next(file for file in self.files if file.name == name)
        differs = file.is_published(path, array) is False
        notes = [f"{path.name} is not the published {self.about.title} file"] if differs else []
        return array, notes


def _read_idx(path: Path, num_axes: int | None = None) -> NDArray[np.uint8]:
    with open_unpacked(path) as file:
        return read_idx(file, str(path), num_axes)


def _present(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder`` as it lies there: gzipped, plain, or with a dot before ``idx``."""
    dotted = name.replace("-idx", ".idx")
    candidates = [folder / f"{stem}{suffix}" for stem in (name, dotted) for suffix in (".gz", "")]
    fits = (Path.is_file, lambda path: path.exists() and not path.is_dir())  # a pipe is named by its reader
    return next((path for test in fits for path in candidates if test(path)), candidates[0])


def _is_keras(path: Path) -> bool:
    """Whether an .npz has Keras's arrays; True for a damaged one, whose reader says what is wrong with it."""
    try:
        names = names_in_npz(path)
    except (OSError, ValueError):
        return True
    return not names or "x_train" in names


def _read_npz(path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]], list[str]]:
    x, y = f"x_{split}", f"y_{split}"

    def check(name: str, header: NpyHeader) -> None:
        if name == x and (header.dtype != np.uint8 or len(header.shape) != 3):
            raise ValueError(f"{path}: {x} must be uint8 [N, H, W]; got {header.dtype} {list(header.shape)}")
        if name == y and (not np.issubdtype(header.dtype, np.integer) or len(header.shape) != 1):
            raise ValueError(f"{path}: {y} must be whole numbers [N]; got {header.dtype} {list(header.shape)}")

    try:
        arrays = read_npz(path, x, y, max_bytes=MAX_BYTES, check=check)
    except ValueError as error:
        raise ValueError(f"{error}; Keras's file with {x} and {y} is needed") from None
    return arrays[x], arrays[y], []


def _verdict(work: object) -> str:
    assert callable(work)
    try:
        result = work()
    except (ValueError, OSError) as error:
        return str(error)
    return result if isinstance(result, str) else "ok"
