"""Arrays of images with factors, written block by block into the cache: what ``packing`` does for picture files."""

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
from filelock import FileLock
from jaxtyping import Int, Shaped
from numpy.typing import NDArray

from vaelab.data.cache import SHARD_BYTES
from vaelab.data.images import Images
from vaelab.data.npy import PixelFiles, open_pixels
from vaelab.system.device import Progress, cache_dir, progress
from vaelab.system.files import write_atomic

VERSION = 1
"""Of what a pack holds: a change makes new ones."""
BLOCK_BYTES = 1 << 22
"""Of pixels at a time, about."""
FACTORS, FACTS = "factors.npy", "pack.json"


@dataclass(frozen=True)
class Source:
    """What is to be packed."""

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


def pack_blocks(title: str, key: Mapping[str, Any], describe: Callable[[], AbstractContextManager[Source]]) -> Images:
    """The images of this key as a memory map, written first where they are not there yet.

    ``key`` is everything that shapes them, as JSON; ``describe`` is called only where something is to be written. A
    pack appears when it is whole; a process that was killed before begins again. OSError where the disk is too small.
    """
    digest = hashlib.sha256(json.dumps({"version": VERSION, **key}, sort_keys=True).encode()).hexdigest()[:20]
    folder = cache_dir() / "packs" / f"{title.split()[0]}-{digest}"
    images = _open(folder)
    if images is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            images = _open(folder)
            if images is None:
                with describe() as source:
                    _make(folder, title, source)
                images = _open(folder)
                assert images is not None
    return images


def _open(folder: Path) -> Images | None:
    """The images in a folder; None where there are none, or damaged ones."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        factors = np.load(folder / FACTORS, allow_pickle=False) if facts["factor_sizes"] else None
        return Images(
            open_pixels(folder, facts["num_files"]),
            factors=factors,
            factor_names=tuple(facts["factor_names"]),
            factor_sizes=tuple(facts["factor_sizes"]),
            digest=facts["digest"],
        )
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _make(folder: Path, title: str, source: Source) -> None:
    making = folder.with_name(f"{folder.name}.part")
    for rest in (making, folder):  # of a process that was killed; damaged
        shutil.rmtree(rest, ignore_errors=True)
    making.mkdir()
    try:
        files = PixelFiles(making, source.shape, SHARD_BYTES)
        _check_space(making, math.prod(source.shape))
        files.create()
        with progress(f"packing {title}", source.shape[0]) as bar:
            _write(files, source, bar)
    except Exception:
        shutil.rmtree(making)
        raise
    if source.factors is not None:
        np.save(making / FACTORS, source.factors, allow_pickle=False)
    with progress(f"checking {title}", source.shape[0]) as bar:
        digest = Images(open_pixels(making, files.num_files)).fingerprint()
        bar.advance(source.shape[0])
    facts = {
        "title": title,
        "digest": digest,
        "num_files": files.num_files,
        "factor_names": source.factor_names,
        "factor_sizes": source.factor_sizes,
    }
    write_atomic(making / FACTS, json.dumps(facts, indent=1) + "\n")
    making.replace(folder)


def _write(files: PixelFiles, source: Source, bar: Progress) -> None:
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


def _check_space(folder: Path, needed: int) -> None:
    needed += 1 << 26
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: packing needs {needed / 1e9:.2f} GB here and {free / 1e9:.2f} GB are free; free some space, or "
            "let $XDG_CACHE_HOME name a folder on a larger disk"
        )


def rows_of(shape: tuple[int, ...]) -> int:
    """How many images make a block."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:])))


def as_classes(values: Shaped[np.ndarray, "n factor"]) -> Int[np.ndarray, "n factor"]:
    """Numbers of any kind as classes: of each column the distinct values, ascending, are 0, 1, 2 …"""
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, 1).astype(np.int64) if columns else np.empty(values.shape, np.int64)
