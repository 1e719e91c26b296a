"""3D Shapes: 480,000 renderings of an object in a room, 64×64 RGB, from the HDF5 file that its authors publish."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, as_classes, rows_per_block
from vaelab.data.datasets import DatasetInfo, UnusableFile
from vaelab.data.datasets._factor_files import FACTORS_ARE_CLASSES, MAX_FACTOR_BYTES, FactorFile, check_factors
from vaelab.data.hdf5 import HDF5_SUFFIXES, damage_named, open_hdf5

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
PIXELS, VALUES = "images", "labels"
MAX_BLOCK_BYTES = 1 << 28
"""Limit of the pixels in memory at a time, regardless of the chunks of the file."""
INFO = DatasetInfo(
    title="3D Shapes",
    image_shape=(3, 64, 64),
    splits={"train": 480_000},
    licence="Apache 2.0",
    source="C. Burgess, H. Kim, 3D Shapes Dataset, 2018; H. Kim, A. Mnih, Disentangling by Factorising, ICML 2018",
    files=("3dshapes.h5",),
    instructions="Put 3dshapes.h5 (268 MB, Apache 2.0 licence; 5.9 GB in the cache) into a folder and name it with "
    "--data. It comes from https://storage.googleapis.com/3d-shapes/3dshapes.h5, described at "
    "https://github.com/google-deepmind/3d-shapes",
)


@contextmanager
def _open(path: Path) -> Iterator[PixelBlocks]:
    with open_hdf5(path) as file:
        missing = [name for name in (PIXELS, VALUES) if not hasattr(file.get(name), "shape")]
        if missing:
            raise UnusableFile(path, f"no {' and no '.join(missing)}; 3D Shapes has {PIXELS} and {VALUES}")
        pixels, factors = file[PIXELS], file[VALUES]
        if pixels.dtype != np.uint8 or len(pixels.shape) != 4:
            raise UnusableFile(path, f"{PIXELS} must be uint8 [N, H, W, 3]; got {pixels.dtype} {list(pixels.shape)}")
        _check_size(path, pixels, pixels.shape[1:], MAX_BLOCK_BYTES)
        _check_size(path, factors, factors.shape, MAX_FACTOR_BYTES)
        check_factors(path, VALUES, factors.dtype, factors.shape, kinds="fiu")
        if factors.shape[1] != len(FACTORS):
            raise UnusableFile(path, f"{VALUES} has {factors.shape[1]} columns; 3D Shapes has {', '.join(FACTORS)}")
        with damage_named(path):
            values = np.asarray(factors)
        if not np.isfinite(values).all():
            raise UnusableFile(path, f"{VALUES} must be finite")
        yield PixelBlocks(pixels.shape, _read_blocks(path, pixels), as_classes(values), FACTORS)


def _check_size(path: Path, dataset: Any, read_shape: tuple[int, ...], max_bytes: int) -> None:
    """InputError if one read, or one chunk, which HDF5 decompresses at once, is larger than in any real file."""
    for shape in (read_shape, dataset.chunks or ()):
        if math.prod(shape) * dataset.dtype.itemsize > max_bytes:
            raise UnusableFile(
                path, f"{dataset.name} declares {list(shape)} {dataset.dtype}, more than {max_bytes:,} bytes"
            )


def _read_blocks(path: Path, pixels: Any) -> Iterator[NDArray[np.uint8]]:
    """Blocks of whole chunks, so that each chunk is decompressed once."""
    chunk = pixels.chunks[0] if pixels.chunks else 1
    step = -(-rows_per_block(pixels.shape) // chunk) * chunk
    step = min(step, max(1, MAX_BLOCK_BYTES // math.prod(pixels.shape[1:])))
    with damage_named(path):
        for start in range(0, len(pixels), step):
            yield pixels[start : start + step]


DATASET = FactorFile(
    name="shapes3d",
    info=INFO,
    folders=("3dshapes", "3d-shapes", "shapes3d"),
    is_one=lambda path: path.suffix.lower() in HDF5_SUFFIXES,
    open=_open,
    notes=(FACTORS_ARE_CLASSES,),
).dataset()
