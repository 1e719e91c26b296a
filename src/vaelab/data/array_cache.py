"""Writes arrays of images into entries of the image cache, block by block; the copy of images that a run keeps."""

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

from vaelab.data.arrays import row_bytes
from vaelab.data.cache import SHARD_BYTES, check_room, find_or_make, finish_entry, locked, open_entry, part_folder
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
    blocks: Iterable[NDArray[Any]]
    """The pixels in their order, some images at a time."""
    factors: NDArray[np.int64] | None = None
    """Class of each factor, from 0 on, ``[N, F]``."""
    factor_names: tuple[str, ...] = ()
    shard_bytes: int = SHARD_BYTES
    dtype: np.dtype[Any] = np.dtype(np.uint8)  # noqa: RUF009 (immutable)

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
    columns = {} if source.factors is None else {"factors": source.factors}
    metadata = {"factor_names": list(source.factor_names), "factor_sizes": list(source.factor_sizes)}
    _write_entry(folder, title, source, columns, metadata)


def _write_entry(
    folder: Path,
    title: str,
    source: PixelBlocks,
    columns: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Any],
) -> None:
    making = part_folder(folder, is_new=True)
    try:
        files = PixelFiles(making, source.shape, source.shard_bytes, source.dtype.newbyteorder("<"))
        check_room(making, source.shape[0] * files.row_bytes + sum(column.nbytes for column in columns.values()))
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
    finish_entry(making, folder, files, columns, title=title, metadata=metadata)


COLUMNS_KEPT = ("labels", "attributes", "factors")
FACTS_KEPT = (
    "label_names",
    "attribute_names",
    "factor_names",
    "factor_sizes",
    "source",
    "notes",
    "warnings",
    "split_name",
)


def keep_images(folder: Path, images: Images) -> None:
    """Write images with all their columns into a folder, in the format of a cache entry; a damaged one is replaced."""
    with locked(folder, folder.name):
        _write_images(folder, f"{folder.name} images", images)


def cache_images(title: str, key: Mapping[str, Any], read: Callable[[], Images]) -> Images:
    """Return the images of a key as memory maps, read and written to the cache first if they are not there."""
    found = find_or_make(title, key, lambda folder: _write_images(folder, title, read()))
    images = open_kept(found.folder)
    assert images is not None
    return images


def _write_images(folder: Path, title: str, images: Images) -> None:
    columns = {name: np.asarray(column) for name in COLUMNS_KEPT if (column := getattr(images, name)) is not None}
    if images.names is not None:
        columns["names"] = np.array(list(images.names))
    step, shape = max(1, BLOCK_BYTES // row_bytes(images.pixels)), tuple(images.pixels.shape)
    blocks = (np.asarray(images.pixels[start : start + step]) for start in range(0, len(images), step))
    metadata = {name: _as_json(getattr(images, name)) for name in FACTS_KEPT}
    metadata |= {"resolved": dict(images.resolved), "annotations": images.annotations_digest()}
    _write_entry(folder, title, PixelBlocks(shape, blocks, dtype=images.pixels.dtype), columns, metadata)


def open_kept(folder: Path) -> Images | None:
    """Return the images that ``keep_images`` wrote, as memory maps; None if there are none or they are damaged."""
    found = open_entry(folder)
    if found is None or not set(FACTS_KEPT) <= set(found.manifest.metadata):
        return None
    facts, names = found.manifest.metadata, found.columns.get("names")
    columns: dict[str, Any] = {name: found.columns.get(name) for name in COLUMNS_KEPT}
    told: dict[str, Any] = {name: _from_json(facts[name]) for name in FACTS_KEPT}
    return Images(
        found.pixels,
        **columns,
        **told,
        names=None if names is None else names.tolist(),
        digest=found.digest,
        cache_folder=folder,
        resolved=facts["resolved"],
    )


def is_same_as_kept(folder: Path, images: Images) -> bool:
    """Return whether a folder keeps these images with these annotations."""
    kept = open_entry(folder)
    return (
        kept is not None
        and kept.digest == images.fingerprint()
        and kept.manifest.metadata.get("annotations") == images.annotations_digest()
    )


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def rows_per_block(shape: tuple[int, ...]) -> int:
    """Return how many images of an array ``[N, …]`` make a block."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:])))


def as_classes(values: Shaped[np.ndarray, "n factor"]) -> Int[np.ndarray, "n factor"]:
    """Number the distinct values of each column 0, 1, 2 … in ascending order."""
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, 1).astype(np.int64) if columns else np.empty(values.shape, np.int64)
