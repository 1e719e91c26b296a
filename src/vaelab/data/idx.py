"""IDX: the format of MNIST and its relatives, and the data sets that come as four files of it.

Four files (``train-images-idx3-ubyte`` …, gzipped or not) in the folder given or where torchvision and Keras leave
them, or Keras's ``.npz``; else they are downloaded.
"""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.images import About, Images
from vaelab.data.pictures import names_in, read_arrays
from vaelab.system.device import cache_dir, data_roots
from vaelab.system.download import DownloadFailed, fetch

UINT8 = 0x08
SPLIT_PREFIX = {"train": "train", "test": "t10k"}


def parse_idx(content: bytes, where: str) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file of unsigned bytes; ValueError says what is wrong with ``where``.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit number, then
    the values in C order.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8 or content[3] == 0:
        raise ValueError(f"{where}: not an IDX file of bytes (it starts with {content[:4].hex(' ') or 'nothing'})")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise ValueError(f"{where}: truncated within its header ({len(content)} of {header} bytes)")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    wanted = math.prod(shape)
    if len(content) - header != wanted:
        state = "truncated" if len(content) - header < wanted else "longer than its header says"
        raise ValueError(
            f"{where}: {state}; the header promises {'×'.join(map(str, shape))} = {wanted} values, "
            f"the file has {len(content) - header}"
        )
    try:
        return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    except ValueError as error:  # more dimensions than NumPy has
        raise ValueError(f"{where}: {error}") from None


def write_idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an IDX file that holds ``array``."""
    header = bytes([0, 0, UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array).tobytes()


def unpack(stored: bytes, where: str) -> bytes:
    """The content of a file, decompressed if it is gzipped (whatever its name says)."""
    return _decompress(stored, where) if stored[:2] == b"\x1f\x8b" else stored


def _decompress(content: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
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

    def is_published(self, stored: bytes, content: bytes) -> bool | None:
        """Whether a file and what it unpacks to are this one; None where the digests known cannot tell."""
        if self.content_sha256 is not None:
            return hashlib.sha256(content).hexdigest() == self.content_sha256
        return None if stored == content else hashlib.sha256(stored).hexdigest() == self.archive_sha256


@dataclass(frozen=True)
class IdxSet:
    """A data set of four IDX files."""

    name: str
    about: About
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
        stored = path.read_bytes()
        content = unpack(stored, str(path))
        parse_idx(content, str(path))
        published = file.is_published(stored, content)
        if published is None:
            return "ok (readable; only the digest of the .gz is published, so the content was not compared)"
        return "ok" if published else f"readable, but not the published {file.name}"

    def _is_whole(self, path: Path, file: Mirrored) -> bool:
        stored = path.read_bytes()
        try:
            return file.is_published(stored, unpack(stored, str(path))) is not False
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
        if found.is_file():
            pixels, labels, notes = _read_npz(found, split)
        else:
            prefix = SPLIT_PREFIX[split]
            (pixels, pixel_notes), (labels, label_notes) = (
                self._read_file(found, f"{prefix}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
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
            raise ValueError(f"{found}: label {wrong[0]} in the {split} split; {self.name} has 0 … 9")
        return pixels[..., None], labels.astype(np.int64), notes

    def _read_file(self, folder: Path, name: str) -> tuple[NDArray[np.uint8], list[str]]:
        path = _present(folder, name)
        stored = path.read_bytes()
        content = unpack(stored, str(path))
        file = next(file for file in self.files if file.name == name)
        differs = file.is_published(stored, content) is False
        notes = [f"{path.name} is not the published {self.about.title} file"] if differs else []
        return parse_idx(content, str(path)), notes


def _present(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder`` as it lies there: gzipped, plain, or with a dot before ``idx``."""
    dotted = name.replace("-idx", ".idx")
    candidates = [folder / f"{stem}{suffix}" for stem in (name, dotted) for suffix in (".gz", "")]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _is_keras(path: Path) -> bool:
    """Whether an .npz has Keras's arrays; of a damaged one it is said where it is read."""
    names = names_in(path)
    return not names or "x_train" in names


def _read_npz(path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]], list[str]]:
    try:
        pixels, labels = read_arrays(path, f"x_{split}", f"y_{split}")
    except ValueError as error:
        raise ValueError(f"{error}; wanted is Keras's file with x_{split} and y_{split}") from None
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: x_{split} must be uint8; got {pixels.dtype}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{path}: y_{split} must be whole numbers; got {labels.dtype}")
    return pixels, labels, []


def _verdict(work: object) -> str:
    assert callable(work)
    try:
        result = work()
    except (ValueError, OSError) as error:
        return str(error)
    return result if isinstance(result, str) else "ok"
