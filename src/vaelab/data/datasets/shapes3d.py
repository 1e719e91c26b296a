"""3D Shapes: 480,000 renderings of an object in a room, 64×64 RGB, from the HDF5 file that its authors publish."""

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, as_classes, rows_per_block
from vaelab.data.datasets._files import MOST_FACTOR_BYTES, FactorFile, check_factors
from vaelab.data.images import DatasetInfo
from vaelab.system.files import check_file

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
PIXELS, VALUES = "images", "labels"
MOST_BYTES = 1 << 28
"""Of pixels in memory at a time, however the file is cut."""
INFO = DatasetInfo(
    title="3D Shapes",
    image_shape=(3, 64, 64),
    splits={"train": 480_000},
    licence="Apache 2.0",
    source="C. Burgess, H. Kim, 3D Shapes Dataset, 2018; H. Kim, A. Mnih, Disentangling by Factorising, ICML 2018",
    files=("3dshapes.h5",),
)


@contextmanager
def _read(path: Path) -> Iterator[PixelBlocks]:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise ValueError(f"{path}: reading it needs the extra h5: pip install 'vaelab[h5]'") from None
    check_file(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from None
    with file:
        missing = [name for name in (PIXELS, VALUES) if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise ValueError(f"{path}: no {' and no '.join(missing)} in it; 3D Shapes has {PIXELS} and {VALUES}")
        pixels = file[PIXELS]
        if pixels.dtype != np.uint8 or len(pixels.shape) != 4:
            raise ValueError(f"{path}: {PIXELS} must be uint8 [N, H, W, 3]; got {pixels.dtype} {list(pixels.shape)}")
        _check_size(path, pixels, pixels.shape[1:], MOST_BYTES)
        _check_size(path, file[VALUES], file[VALUES].shape, MOST_FACTOR_BYTES)
        try:
            values = np.asarray(file[VALUES])
        except OSError as error:
            raise _damaged(path, error) from None
        values = check_factors(path, VALUES, values, kinds="fiu")
        if values.shape[1] != len(FACTORS):
            raise ValueError(f"{path}: {VALUES} has {values.shape[1]} columns; 3D Shapes has {', '.join(FACTORS)}")
        yield PixelBlocks(pixels.shape, _blocks(path, pixels), as_classes(values), FACTORS)


def _check_size(path: Path, dataset: Any, at_once: tuple[int, ...], max_bytes: int) -> None:
    """ValueError if what is read at once, or one chunk, which HDF5 unpacks whole, is larger than any real one."""
    for shape in (at_once, dataset.chunks or ()):
        if math.prod(shape) * dataset.dtype.itemsize > max_bytes:
            raise ValueError(f"{path}: {dataset.name} declares {list(shape)} {dataset.dtype} at once, which is refused")


def _blocks(path: Path, pixels: Any) -> Iterator[NDArray[np.uint8]]:
    """Blocks of whole chunks, which are unpacked whole, so that each is unpacked once."""
    chunk = pixels.chunks[0] if pixels.chunks else 1
    step = -(-rows_per_block(pixels.shape) // chunk) * chunk
    step = min(step, max(1, MOST_BYTES // int(np.prod(pixels.shape[1:]))))
    try:
        for start in range(0, len(pixels), step):
            yield pixels[start : start + step]
    except OSError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: no HDF5 file, or a damaged one ({' '.join(str(error).split())})")


_SET = FactorFile(
    name="shapes3d",
    about=INFO,
    folders=("3dshapes", "3d-shapes", "shapes3d"),
    address=f"Put {INFO.files[0]} (268 MB, Apache 2.0 licence; unpacked it takes 5.9 GB in the cache) from "
    "https://storage.googleapis.com/3d-shapes/3dshapes.h5, described at https://github.com/google-deepmind/3d-shapes, "
    "into a folder and name it with --data",
    is_one=lambda path: path.suffix.lower() in (".h5", ".hdf5"),
    read=_read,
    notes=("every factor is a class: its distinct values in ascending order are 0, 1, 2 …",),
)
find, get, check, load = _SET.find, _SET.get, _SET.check, _SET.load
