"""Data sets of one file, which holds images and the factors that made them and that a person has to fetch."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.cache import stamp
from vaelab.data.datasets._packed import Source, pack_blocks, rows_of
from vaelab.data.images import About, Images
from vaelab.data.pictures import DAMAGE
from vaelab.system.device import data_roots, progress

SYMMETRY = (
    "the first and the last orientation are one; a square repeats after a quarter turn, an ellipse after half a turn, "
    "so that their images hardly tell it"
)
"""Of sprites and of dSprites: a note for the person."""


def check_split(name: str, split: str) -> None:
    """ValueError for every split but train: sets with known factors are published as one."""
    if split != "train":
        raise ValueError(
            f"{name} has one split, train, with all its images; there is no split {split!r}. To validate, set some "
            "aside: --set data.valid=10000"
        )


def check_factors(path: Path, name: str, values: NDArray[Any], kinds: str = "biu") -> NDArray[Any]:
    """``values``, if they are finite numbers ``[N, F]`` of these NumPy kinds; else ValueError."""
    wanted = "numbers" if "f" in kinds else "whole numbers"
    if values.ndim != 2 or not values.size or values.dtype.kind not in kinds:
        raise ValueError(f"{path}: {name} must be {wanted} [N, F]; got {values.dtype} {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name} must be finite")
    return values


@dataclass(frozen=True)
class FactorFile:
    """A data set of one file."""

    name: str
    about: About
    folders: tuple[str, ...]
    """Folder names below a data root in which others leave the file."""
    address: str
    """What the error for a missing file says: where it comes from, and what it is."""
    is_one: Callable[[Path], bool]
    """Whether a file of any name may be this one; it is not read to its end."""
    read: Callable[[Path], AbstractContextManager[Source]]
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
        """The images of the split train with their factors, packed in the cache."""
        check_split(self.name, split)
        path = self.find(data_dir)
        if path is None:
            place = "" if data_dir is None else f"{data_dir}: "
            raise FileNotFoundError(f"{place}{self.name} is not here. {self.address}")
        key = {"data": self.name, "file": stamp(path)}
        packed = pack_blocks(f"{self.name} train", key, lambda: self._read(path))
        return replace(packed, source=str(path.resolve()), notes=(*self.notes, *self._differs(len(packed))))

    @contextmanager
    def _read(self, path: Path) -> Iterator[Source]:
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


# -- arrays in an .npz ------------------------------------------------------------------------------------------------


@contextmanager
def open_uint8(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], Iterator[NDArray[np.uint8]]]]:
    """Shape and blocks of a uint8 array in an ``.npz``, which is unpacked as it is read; nothing is unpickled."""
    where = f"{path}: {name}"
    with ExitStack() as opened:
        try:
            archive = opened.enter_context(zipfile.ZipFile(path))
            member = opened.enter_context(archive.open(f"{name}.npy"))
            version = np.lib.format.read_magic(member)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, is_fortran, dtype = read(member)
        except DAMAGE as error:
            raise _damaged(where, error) from None
        if dtype != np.uint8:
            raise ValueError(f"{where} must be uint8; got {dtype}")
        if is_fortran and len(shape) > 1:
            raise ValueError(f"{where} is stored column by column: save np.ascontiguousarray({name})")
        yield shape, _blocks(member, shape, where)


def _blocks(member: Any, shape: tuple[int, ...], where: str) -> Iterator[NDArray[np.uint8]]:
    step = rows_of(shape)
    try:
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            content = member.read(count * int(np.prod(shape[1:])))
            yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])
        if member.read(1):  # at the end the checksum is compared
            raise ValueError("longer than its header says")
    except DAMAGE as error:
        raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> ValueError:
    reason = str(error).strip("'\"") or type(error).__name__
    return ValueError(f"{where} cannot be read, the file is damaged ({reason})")
