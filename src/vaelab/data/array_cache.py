"""Arrays of images with factors, written block by block into the image cache."""

import hashlib
import json
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

from vaelab.data.cache import (
    Manifest,
    add_checksums,
    check_space,
    checksum_blocks,
    entry_folder,
    locked,
    open_rows,
    read_manifest,
    unreadable,
    write_manifest,
)
from vaelab.data.images import Images
from vaelab.data.npy import PixelFiles, open_pixels, read_npy_header, read_values, write_array
from vaelab.data.picture_cache import SHARD_BYTES
from vaelab.system.files import DamagedFile, check_file
from vaelab.system.progress import Progress, progress

VERSION = 1
"""Of what a cache entry holds: a change makes new ones."""
BLOCK_BYTES = 1 << 22
"""Of pixels at a time, about."""
FACTORS = "factors.npy"


@dataclass(frozen=True)
class PixelBlocks:
    """What is to be cached."""

    shape: tuple[int, ...]
    """Of the pixels, ``[N, H, W, C]``."""
    blocks: Iterable[NDArray[np.uint8]]
    """The pixels in their order, some images at a time."""
    factors: NDArray[np.int64] | None = None
    """Every value from 0 on, ``[N, F]``."""
    factor_names: tuple[str, ...] = ()

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """How many values each factor takes."""
        return () if self.factors is None else tuple((self.factors.max(0) + 1).tolist())


def cache_blocks(
    title: str, key: Mapping[str, Any], describe: Callable[[], AbstractContextManager[PixelBlocks]]
) -> Images:
    """The images of this key as a memory map, written first if they are not there yet.

    ``key`` is everything that shapes them, as JSON; ``describe`` is called only if something is to be written. A
    entry appears when it is whole; a process that was killed before begins again. OSError if the disk is too small.
    """
    digest = hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()[:20]
    folder = entry_folder(title, digest)
    images = _open(folder)
    if images is None:
        with locked(folder, title):
            images = _open(folder)
            if images is None:
                with describe() as source:
                    _make(folder, title, source)
                images = _open(folder)
                if images is None:
                    raise unreadable(folder)
    return images


def _open(folder: Path) -> Images | None:
    """The images in a folder; None if there are none, or damaged ones."""
    try:
        facts = read_manifest(folder)
        pixels, kept = open_rows(folder, facts)
        return Images(
            pixels,
            factors=_read_factors(folder / FACTORS, facts, len(kept)) if facts.factor_sizes else None,
            factor_names=tuple(facts.factor_names),
            factor_sizes=tuple(facts.factor_sizes),
            digest=facts.digest,
            cache_folder=folder,
        )
    except (OSError, ValueError):
        return None


def _read_factors(path: Path, facts: Manifest, count: int) -> NDArray[np.int64]:
    if facts.checksums is not None and checksum_blocks(path) != facts.checksums.get(FACTORS):
        raise DamagedFile(path, "its checksum does not match its content")
    check_file(path)
    with path.open("rb") as file:
        header = read_npy_header(file)
        if header.dtype != np.int64 or header.shape != (count, len(facts.factor_sizes)):
            raise DamagedFile(path, f"it declares {header.dtype} {list(header.shape)}")
        return read_values(file, header)


def _make(folder: Path, title: str, source: PixelBlocks) -> None:
    making = folder.with_name(f"{folder.name}.part")
    for rest in (making, folder):  # of a process that was killed; damaged
        shutil.rmtree(rest, ignore_errors=True)
    making.mkdir()
    try:
        files = PixelFiles(making, source.shape, SHARD_BYTES)
        check_space(making, math.prod(source.shape) + (0 if source.factors is None else source.factors.nbytes))
        files.create()
        with progress(f"caching {title}", source.shape[0]) as bar:
            _write(files, source, bar)
    except Exception:
        shutil.rmtree(making)
        raise
    if source.factors is not None:
        with (making / FACTORS).open("wb") as file:
            write_array(file, source.factors)
    with progress(f"checking {title}", source.shape[0]) as bar:
        digest = Images(open_pixels(making, files.num_files)).fingerprint()
        bar.advance(source.shape[0])
    facts = Manifest(
        title=title,
        digest=digest,
        num_files=files.num_files,
        shape=list(source.shape),
        factor_names=list(source.factor_names),
        factor_sizes=list(source.factor_sizes),
    )
    write_manifest(making, add_checksums(making, facts))
    making.replace(folder)


def _write(files: PixelFiles, source: PixelBlocks, bar: Progress) -> None:
    row = 0
    for block in source.blocks:
        rest = block
        while len(rest):
            path, position = files.locate(row)
            here, rest = np.split(rest, [files.rows_per_file - row % files.rows_per_file])
            with Path(path).open("r+b") as file:
                file.seek(position)
                file.write(np.ascontiguousarray(here).data)
            row += len(here)
        bar.advance(len(block))
    assert row == source.shape[0]


def rows_of(shape: tuple[int, ...]) -> int:
    """How many images make a block."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:])))


def as_classes(values: Shaped[np.ndarray, "n factor"]) -> Int[np.ndarray, "n factor"]:
    """Numbers of any kind as classes: of each column the distinct values, ascending, are 0, 1, 2 …"""
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, 1).astype(np.int64) if columns else np.empty(values.shape, np.int64)
