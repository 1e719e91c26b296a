"""Data sets of one file with images and the factors that generated them, which the user obtains."""

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
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.images import Images
from vaelab.data.npy import NpyHeader, damage_named, names_in_npz, open_npz, read_npz
from vaelab.system.paths import data_roots
from vaelab.system.progress import progress

SYMMETRY = (
    "the first and the last orientation are equal; squares repeat after a quarter turn and ellipses after half a turn, "
    "so images hardly show this factor"
)
"""Note about sprites and dSprites."""
FACTORS_ARE_CLASSES = "factors are classes: the distinct values of each, in ascending order, are 0, 1, 2 …"
ARRAY_ADVICE = "the data set arrays (--set data.name=arrays) reads .npz and .npy files of images, such as [N, H, W, C]"
MAX_FACTOR_BYTES = 1 << 30


@dataclass(frozen=True)
class FactorFile:
    """A data set of one file."""

    name: str
    info: DatasetInfo
    folders: tuple[str, ...]
    """Folders below a data root in which other programs put the file."""
    is_one: Callable[[Path], bool]
    """Whether a file with another name may be this one, without reading all of it."""
    open: Callable[[Path], AbstractContextManager[PixelBlocks]]
    """Open the content; InputError says what is wrong with the file."""
    notes: tuple[str, ...] = ()

    def dataset(self) -> Dataset:
        """The data set of this file."""
        return Dataset(self.info, self.load, find=self.find, check=self.check)

    def find(self, data_dir: Path | None) -> Path | None:
        """The file at a data root; None if there is none."""
        return next(filter(None, map(self._search, data_roots(data_dir))), None)

    def _search(self, root: Path) -> Path | None:
        if root.is_file():
            return root if self.is_one(root) else None
        paths = (root / folder / self.info.files[0] for folder in ("", *self.folders))
        return next(filter(Path.is_file, paths), None)

    def load(self, data_dir: Path | None, split: str) -> Images:
        """Load the images of the split "train" with their factors through the cache."""
        if split not in ("train", "valid", "test"):
            self.info.check_split(split)
        path = self.find(data_dir)
        if path is None:
            raise self._not_found(data_dir)
        if split != "train":
            with self._open(path) as source:
                self.info.check_split(split, source.shape[0])
        key = {"data": self.name, "file": file_signature(path)}
        images = cache_blocks(f"{self.name} train", key, lambda: self._open(path))
        return replace(images, source=str(path.resolve()), notes=(*self.notes, *self._compare(len(images))))

    def _not_found(self, data_dir: Path | None) -> FileNotFoundError:
        place = "" if data_dir is None else f"{data_dir}: "
        return FileNotFoundError(f"{place}no file of {self.name}. {self.info.instructions}")

    @contextmanager
    def _open(self, path: Path) -> Iterator[PixelBlocks]:
        """The content; InputError if it cannot be images with factors, before their pixels are read."""
        with self.open(path) as source:
            black, names = np.broadcast_to(np.uint8(0), source.shape), source.factor_names
            try:
                Images(black, factors=source.factors, factor_names=names, factor_sizes=source.factor_sizes)
            except ValueError as error:
                raise UnusableFile(path, f"{error}") from None
            yield source

    def _compare(self, count: int) -> Iterator[str]:
        """A note if the number of images is not the published one."""
        published = self.info.splits["train"]
        if published not in (None, count):
            yield f"{count:,} images; published are {published:,}"

    def check(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Yield (file, verdict) after reading the whole file."""
        path = self._search(folder)
        if path is None:
            raise self._not_found(folder)
        try:
            with self._open(path) as source, progress(f"reading {path.name}", source.shape[0]) as bar:
                for block in source.blocks:
                    bar.advance(len(block))
        except ValueError as error:
            yield str(path), str(error)
        else:
            yield str(path), "".join(("ok", *(f" ({note})" for note in self._compare(source.shape[0]))))


# -- arrays in an .npz ------------------------------------------------------------------------------------------------


def is_npz_with(path: Path, *names: str) -> bool:
    """Whether a file is an ``.npz`` with arrays of these names; False if it cannot be read."""
    try:
        return set(names) <= names_in_npz(path)
    except (OSError, ValueError):
        return False


@contextmanager
def open_pixels(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], Iterator[NDArray[np.uint8]]]]:
    """Shape and blocks of a uint8 array in an ``.npz``, decompressed while it is read; nothing is unpickled."""
    with ExitStack() as stack:
        header, member = stack.enter_context(open_npz(path, name))
        if header.dtype != np.uint8:
            raise UnusableFile(path, f"{name} must be uint8; got {header.dtype}")
        if header.is_fortran and len(header.shape) > 1:
            raise UnusableFile(path, f"{name} is stored in Fortran order; save numpy.ascontiguousarray({name})")

        def read_blocks() -> Iterator[NDArray[np.uint8]]:
            (total, *row), step = header.shape, rows_per_block(header.shape)
            with damage_named(path):
                for start in range(0, total, step):
                    size = min(step, total - start) * math.prod(row)
                    content = member.read(size)
                    if len(content) < size:
                        raise ValueError(f"{name} is truncated")
                    yield np.frombuffer(content, np.uint8).reshape(-1, *row)
                if member.read(1):  # also compares the checksum, at the end
                    raise ValueError(f"{name} is longer than its header says")

        yield header.shape, read_blocks()


def read_factors(path: Path, name: str) -> NDArray[Any]:
    """The integers ``[N, F]`` with this name in an ``.npz``; InputError, before reading, if they are others."""

    def check(_name: str, header: NpyHeader) -> None:
        check_factors(path, name, header.dtype, header.shape, kinds="biu")

    return read_npz(path, name, max_bytes=MAX_FACTOR_BYTES, check=check)[name]


def check_factors(path: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], kinds: str) -> None:
    """Raise InputError unless an array is a non-empty ``[N, F]`` of numbers of these NumPy kinds."""
    if len(shape) != 2 or not math.prod(shape) or dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "integers"
        raise UnusableFile(path, f"{name} must be {wanted} [N, F]; got {dtype} {list(shape)}")
