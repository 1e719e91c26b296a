"""Data sets published as four IDX files, such as MNIST.

The files (``train-images-idx3-ubyte`` …, gzipped or not) or Keras's ``.npz`` are read from the given folder or from
where torchvision and Keras store them; otherwise they are downloaded.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.datasets import DatasetInfo
from vaelab.data.idx import GZIP, MAX_BYTES, read_idx, write_idx
from vaelab.data.images import Images
from vaelab.data.npy import NpyHeader, names_in_npz, read_npz
from vaelab.system.download import DownloadFailed, fetch
from vaelab.system.files import DamagedFile
from vaelab.system.paths import cache_dir, data_roots

SPLIT_PREFIX = {"train": "train", "test": "t10k"}
NUM_AXES = {"images-idx3-ubyte": 3, "labels-idx1-ubyte": 1}
"""Last part of a file name → number of axes of the array."""


@dataclass(frozen=True)
class Mirrored:
    """One file of a data set as its authors publish it."""

    name: str
    content_sha256: str | None = None
    """Digest of the decompressed bytes."""
    archive_sha256: str | None = None
    """Digest of the gzipped bytes, if that of the content is not published."""

    def check(self, path: Path) -> None:
        """Raise ValueError if a downloaded ``.gz`` is not this file."""
        try:
            with path.open("rb") if self.content_sha256 is None else gzip.open(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"a damaged or truncated gzip file ({error})") from None
        if found != (self.content_sha256 or self.archive_sha256):
            raise ValueError(f"{path.stat().st_size} bytes with another SHA-256 than {self.name} has")

    def is_published(self, path: Path, array: NDArray[np.uint8]) -> bool | None:
        """Return whether a file, read as ``array``, is this one; None if the published digest does not apply."""
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
    info: DatasetInfo
    files: tuple[Mirrored, ...]
    mirrors: tuple[str, ...]
    folders: tuple[str, ...]
    """Folders below a data root in which other libraries store these files."""
    npz: tuple[str, ...] = ()
    """Names of Keras's single file."""
    label_names: tuple[str, ...] = field(default_factory=lambda: tuple("0123456789"))

    def load(self, data_dir: Path | None, split: str) -> Images:
        """Return the images of ``split`` ("train" or "test"), downloaded first if they are not found."""
        self.info.check_split(split)
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
        except DamagedFile as error:
            remedy = f"vaelab data get {self.name} replaces it" if found == cache_dir() / self.name else ""
            raise DamagedFile(error.path, error.reason, remedy) from None
        source = str(found if found.is_file() else found.resolve())
        return Images(pixels, labels, self.label_names, source=source, notes=tuple(notes))

    def get(self, target: Path | None) -> Path:
        """Download missing files to ``target`` (None: the user's cache, where damaged files are replaced too)."""
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
        """Yield (file, "ok" … or the problem) for each file of this data set in or below ``folder``."""
        found = self._search(folder)
        if found is None:
            raise FileNotFoundError(f"{folder}: no files of {self.name} here. {self._advice()}")
        for file in () if found.is_file() else self.files:
            path = _present(found, file.name)
            yield str(path), _verdict(partial(self._check_file, path, file))
        for split in SPLIT_PREFIX:
            yield f"{split} split", _verdict(partial(self._read, found, split))

    def _check_file(self, path: Path, file: Mirrored) -> str:
        published = file.is_published(path, read_idx(path))
        if published is None:
            return "ok (readable; only the digest of the .gz is published, so the content was not compared)"
        return "ok" if published else f"readable, but not the published {file.name}"

    def _is_whole(self, path: Path, file: Mirrored) -> bool:
        try:
            return file.is_published(path, read_idx(path)) is not False
        except ValueError:
            return False

    def _advice(self) -> str:
        names = ", ".join(f"{file.name}.gz" for file in self.files)
        return f"Put {names} into a folder, unpacked or not, and name it with --data"

    def find(self, data_dir: Path | None) -> Path | None:
        """Return the folder with the four files or the path of the ``.npz``, searched in all roots; None if missing."""
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
        """Return pixels ``[N, H, W, 1]``, labels ``[N]`` and notes of one split, checked against each other."""
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
        if len(pixels) != len(labels):
            raise DamagedFile(found, f"{len(pixels)} images but {len(labels)} labels in the {split} split")
        wrong = labels[(labels < 0) | (labels >= len(self.label_names))]
        if len(wrong):
            raise DamagedFile(labels_path, f"label {wrong[0]} in the {split} split; {self.name} has 0 … 9")
        return pixels[..., None], labels.astype(np.int64), notes

    def _read_file(self, folder: Path, name: str) -> tuple[NDArray[np.uint8], list[str]]:
        path = _present(folder, name)
        array = read_idx(path, NUM_AXES[name.partition("-")[2]])
        file = next(file for file in self.files if file.name == name)
        differs = file.is_published(path, array) is False
        notes = [f"{path.name} is not the published {self.info.title} file"] if differs else []
        return array, notes


def _present(folder: Path, name: str) -> Path:
    """Return the file ``name`` in ``folder`` in any of its forms: gzipped, plain, or with a dot before ``idx``."""
    dotted = name.replace("-idx", ".idx")
    candidates = [folder / f"{stem}{suffix}" for stem in (name, dotted) for suffix in (".gz", "")]
    fits = (Path.is_file, lambda path: path.exists() and not path.is_dir())  # the reader names a pipe
    return next((path for test in fits for path in candidates if test(path)), candidates[0])


def _is_keras(path: Path) -> bool:
    """Return whether an ``.npz`` has Keras's arrays; True for a damaged one, since its reader names the problem."""
    try:
        names = names_in_npz(path)
    except (OSError, ValueError):
        return True
    return not names or "x_train" in names


def _read_npz(path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]], list[str]]:
    x, y = f"x_{split}", f"y_{split}"

    def check(name: str, header: NpyHeader) -> None:
        if name == x and (header.dtype != np.uint8 or len(header.shape) != 3):
            raise DamagedFile(path, f"{x} must be uint8 [N, H, W]; got {header.dtype} {list(header.shape)}")
        if name == y and (not np.issubdtype(header.dtype, np.integer) or len(header.shape) != 1):
            raise DamagedFile(path, f"{y} must be integers [N]; got {header.dtype} {list(header.shape)}")

    try:
        arrays = read_npz(path, x, y, max_bytes=MAX_BYTES, check=check)
    except DamagedFile as error:
        raise DamagedFile(path, error.reason, f"Keras's file with {x} and {y} is needed") from None
    return arrays[x], arrays[y], []


def _verdict(work: Callable[[], object]) -> str:
    try:
        result = work()
    except (ValueError, OSError) as error:
        return str(error)
    return result if isinstance(result, str) else "ok"
