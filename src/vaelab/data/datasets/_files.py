"""Data sets of one file, which holds images and the factors that made them and that a person has to fetch."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, cache_blocks, rows_per_block
from vaelab.data.cache import file_signature
from vaelab.data.images import DatasetInfo, Images
from vaelab.data.npy import NpyHeader, Reader, damage_named, names_in_npz, open_npz, read_npz
from vaelab.system.paths import data_roots
from vaelab.system.progress import progress

SYMMETRY = (
    "the first and the last orientation are one; a square repeats after a quarter turn, an ellipse after half a turn, "
    "so that their images hardly tell it"
)
"""Of sprites and of dSprites: a note for the person."""
MOST_FACTOR_BYTES = 1 << 30
"""Of factors; more are refused."""


def check_split(name: str, split: str, count: int) -> None:
    """ValueError for every split but train: sets with known factors are published as one. ``count``: their images."""
    if split != "train":
        raise ValueError(
            f"{name} has one split, train, with all its {count:,} images; there is no split {split!r}. To validate, "
            f"set some aside: --set data.valid={max(1, min(10_000, count // 10))}"
        )


def advise_array(path: Path) -> str:
    """How to train on the array in a ``.npy`` or ``.npz`` that was given where pictures or another file belong."""
    if path.suffix.lower() == ".npy":
        made = path.with_suffix(".npz").name
        return (
            f'an array: save it in an .npz, numpy.savez("{made}", images=numpy.load("{path.name}")), then '
            f"--set data.name=arrays --data {made}"
        )
    return "arrays and no pictures: add --set data.name=arrays, which reads images, uint8 [N, H, W] or [N, H, W, C]"


def check_factors(path: Path, name: str, values: NDArray[Any], kinds: str = "biu") -> NDArray[Any]:
    """``values``, if they are finite numbers ``[N, F]`` of these NumPy kinds; else ValueError."""
    _check_declared(path, name, values.dtype, values.shape, kinds)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name} must be finite")
    return values


def _check_declared(path: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], kinds: str) -> None:
    wanted = "numbers" if "f" in kinds else "whole numbers"
    if len(shape) != 2 or not math.prod(shape) or dtype.kind not in kinds:
        raise ValueError(f"{path}: {name} must be {wanted} [N, F]; got {dtype} {list(shape)}")


@dataclass(frozen=True)
class FactorFile:
    """A data set of one file."""

    name: str
    about: DatasetInfo
    folders: tuple[str, ...]
    """Folder names below a data root in which others leave the file."""
    address: str
    """What the error for a missing file says: where it comes from, and what it is."""
    is_one: Callable[[Path], bool]
    """Whether a file of any name may be this one; it is not read to its end."""
    read: Callable[[Path], AbstractContextManager[PixelBlocks]]
    """The content; ValueError names the file and says what is wrong with it."""
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Its name as published."""
        return self.about.files[0]

    def find(self, data_dir: Path | None) -> Path | None:
        """The file in the places that count; None if it is in none of them."""
        return next(filter(None, (self._search(root) for root in data_roots(data_dir))), None)

    def _search(self, root: Path) -> Path | None:
        if root.is_file():
            return root if self.is_one(root) else None
        places = (root / folder / self.file for folder in ("", *self.folders))
        return next((path for path in places if path.is_file()), None)

    def get(self, target: Path | None) -> Path:
        """Nothing is downloaded: ValueError says where the file comes from."""
        raise ValueError(f"vaelab does not download {self.name}. {self.address}")

    def load(self, data_dir: Path | None, split: str) -> Images:
        """The images of the split train with their factors, decoded once into the cache."""
        path = self.find(data_dir)
        if path is None:
            if split not in ("train", "valid", "test"):  # no file would have it
                raise ValueError(f"{self.name} has one split, train; there is no split {split!r}")
            place = "" if data_dir is None else f"{data_dir}: "
            is_npy = data_dir is not None and data_dir.is_file() and data_dir.suffix.lower() == ".npy"
            advice = (
                advise_array(data_dir)
                if data_dir is not None and is_npy
                else f"{self.name} is not here. {self.address}"
            )
            raise FileNotFoundError(f"{place}{advice}")
        if split != "train":
            with self._read(path) as source:
                check_split(self.name, split, source.shape[0])
        key = {"data": self.name, "file": file_signature(path)}
        cached = cache_blocks(f"{self.name} train", key, lambda: self._read(path))
        return replace(cached, source=str(path.resolve()), notes=(*self.notes, *self._differs(len(cached))))

    @contextmanager
    def _read(self, path: Path) -> Iterator[PixelBlocks]:
        """The content; ValueError where it cannot be images with factors, before their pixels are read."""
        with self.read(path) as source:
            black, names = np.broadcast_to(np.uint8(0), source.shape), source.factor_names
            try:
                Images(black, factors=source.factors, factor_names=names, factor_sizes=source.factor_sizes)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            yield source

    def _differs(self, count: int) -> Iterator[str]:
        published = self.about.splits["train"]
        if published not in (None, count):
            yield f"{count:,} images; published are {published:,}"

    def check(self, folder: Path) -> Iterator[tuple[str, str]]:
        """(file, "ok" … or what is wrong with it), after reading it to its end."""
        path = self._search(folder)
        if path is None:
            raise FileNotFoundError(f"{folder}: {self.name} is not here. {self.address}")
        try:
            with self._read(path) as source, progress(f"reading {path.name}", source.shape[0]) as bar:
                for block in source.blocks:
                    bar.advance(len(block))
        except ValueError as error:
            yield str(path), str(error)
        else:
            yield str(path), "".join(("ok", *(f" ({what})" for what in self._differs(source.shape[0]))))


def is_npz_with(path: Path, *names: str) -> bool:
    """Whether a file is an ``.npz`` with arrays of these names; False where it cannot be read."""
    try:
        return set(names) <= names_in_npz(path)
    except (OSError, ValueError):
        return False


# -- arrays in an .npz ------------------------------------------------------------------------------------------------


@contextmanager
def open_uint8(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], Iterator[NDArray[np.uint8]]]]:
    """Shape and blocks of a uint8 array in an ``.npz``, which is unpacked as it is read; nothing is unpickled."""
    where = f"{path}: {name}"
    with ExitStack() as opened:
        header, member = opened.enter_context(open_npz(path, name))
        if header.dtype != np.uint8:
            raise ValueError(f"{where} must be uint8; got {header.dtype}")
        if header.is_fortran and len(header.shape) > 1:
            raise ValueError(f"{where} is stored column by column: save np.ascontiguousarray({name})")
        yield header.shape, _blocks(path, member, header.shape, name)


def _blocks(path: Path, member: Reader, shape: tuple[int, ...], name: str) -> Iterator[NDArray[np.uint8]]:
    step, row_bytes = rows_per_block(shape), math.prod(shape[1:])
    with damage_named(path):
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            content = member.read(count * row_bytes)
            if len(content) < count * row_bytes:
                raise ValueError(f"{name} is truncated")
            yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])
        if member.read(1):  # at the end the checksum is compared
            raise ValueError(f"{name} is longer than its header says")


def read_factors(path: Path, name: str, kinds: str = "biu") -> NDArray[Any]:
    """The finite numbers ``[N, F]`` of this name in an ``.npz``; ValueError if they are none, before they are read."""

    def check(_name: str, header: NpyHeader) -> None:
        _check_declared(path, name, header.dtype, header.shape, kinds)

    return check_factors(path, name, read_npz(path, name, max_bytes=MOST_FACTOR_BYTES, check=check)[name], kinds)
