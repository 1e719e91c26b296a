"""Caches arrays of images with factors, written block by block into an entry of the image cache."""

import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy.typing import NDArray

from vaelab.data.cache import SHARD_BYTES, check_room, find_or_make, finish_entry, part_folder
from vaelab.data.images import Images
from vaelab.data.npy import PixelFiles
from vaelab.system.progress import progress

BLOCK_BYTES = 1 << 22
"""Pixels that are read and written at a time."""


@dataclass(frozen=True)
class PixelBlocks:
    """Images to cache, given block by block."""

    shape: tuple[int, ...]
    """Shape of all pixels, ``[N, H, W, C]``."""
    blocks: Iterable[NDArray[np.uint8]]
    """The pixels in their order, some images at a time."""
    factors: NDArray[np.int64] | None = None
    """Class of each factor, from 0 on, ``[N, F]``."""
    factor_names: tuple[str, ...] = ()
    shard_bytes: int = SHARD_BYTES

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of classes of each factor."""
        return () if self.factors is None else tuple((self.factors.max(0) + 1).tolist())


def cache_blocks(
    title: str, key: Mapping[str, Any], describe: Callable[[], AbstractContextManager[PixelBlocks]]
) -> Images:
    """Return the images of a key as memory maps, written to the cache first if they are not there.

    ``key`` is everything that shapes the images, as JSON; ``describe`` is called only if something is written. A
    process that was killed begins again. OSError if the disk is too small.
    """

    def make(folder: Path) -> None:
        with describe() as source:
            _make(folder, title, source)

    found = find_or_make(title, key, make)
    return Images(
        found.pixels,
        factors=found.columns.get("factors"),
        factor_names=tuple(found.manifest.metadata["factor_names"]),
        factor_sizes=tuple(found.manifest.metadata["factor_sizes"]),
        digest=found.digest,
        cache_folder=found.folder,
    )


def _make(folder: Path, title: str, source: PixelBlocks) -> None:
    making = part_folder(folder, is_new=True)
    columns = {} if source.factors is None else {"factors": source.factors}
    try:
        files = PixelFiles(making, source.shape, source.shard_bytes)
        check_room(making, math.prod(source.shape) + sum(column.nbytes for column in columns.values()))
        files.create()
        with progress(f"caching {title}", source.shape[0]) as bar:
            row = 0
            for block in source.blocks:
                files.write(row, block)
                row += len(block)
                bar.advance(len(block))
            assert row == source.shape[0]
    except Exception:
        shutil.rmtree(making)
        raise
    metadata = {"factor_names": list(source.factor_names), "factor_sizes": list(source.factor_sizes)}
    finish_entry(making, folder, files, columns, title=title, metadata=metadata)


def rows_per_block(shape: tuple[int, ...]) -> int:
    """Return how many images of an array ``[N, …]`` make a block."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:])))


def as_classes(values: Shaped[np.ndarray, "n factor"]) -> Int[np.ndarray, "n factor"]:
    """Number the distinct values of each column 0, 1, 2 … in ascending order."""
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, 1).astype(np.int64) if columns else np.empty(values.shape, np.int64)
