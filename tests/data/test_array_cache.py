"""Cached arrays: written block by block into shards, whole or absent."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import ROW_BYTES, expected
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, as_classes, cache_blocks, rows_per_block
from vaelab.data.arrays import ConcatArray
from vaelab.data.images import Images
from vaelab.system.files import DiskFull

pytestmark = pytest.mark.usefixtures("cache")
FACTORS = np.stack(np.unravel_index(np.arange(12), (3, 4)), 1)


def split(size: int) -> Iterator[NDArray[np.uint8]]:
    yield from np.split(expected(range(12)), range(size, 12, size))


def load(blocks: Iterator[NDArray[np.uint8]], **options: Any) -> Images:
    source = PixelBlocks((12, 9, 8, 1), blocks, FACTORS, ("row", "column"), **options)
    return cache_blocks("mine", {}, lambda: nullcontext(source))


@pytest.mark.parametrize("size", [1, 5, 7, 12])
@pytest.mark.parametrize("rows_per_file", [1, 4, 12])
def test_blocks_are_written_to_shards(cache: Path, size: int, rows_per_file: int) -> None:
    images = load(split(size), shard_bytes=rows_per_file * ROW_BYTES)
    assert len(list(cache.glob("*/pixels*.npy"))) == 12 // rows_per_file
    assert isinstance(images.pixels, np.memmap if rows_per_file == 12 else ConcatArray)
    np.testing.assert_array_equal(np.asarray(images.pixels), expected(range(12)), strict=True)
    np.testing.assert_array_equal(images.factors, FACTORS)
    assert (images.factor_names, images.factor_sizes) == (("row", "column"), (3, 4))
    assert images.digest == Images(expected(range(12))).fingerprint()
    assert load(iter(())).cache_folder == images.cache_folder  # not written again


def test_an_interrupted_entry_begins_again(cache: Path) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield expected(range(7, 12))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(broken())
    (part,) = cache.glob("*.part")
    np.testing.assert_array_equal(np.asarray(load(split(5)).pixels), expected(range(12)))
    assert not part.exists()


def test_a_full_disk_is_noticed_before_anything_is_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(DiskFull):
        load(split(5))
    assert not [left for left in cache.rglob("*") if left.is_dir()]


def test_blocks_have_about_four_megabytes() -> None:
    assert rows_per_block((10**6, 64, 64, 1)) == 1024
    assert rows_per_block((10, 4096, 4096, 3)) == 1


def test_values_become_classes() -> None:
    assert as_classes(np.array([[0.5, 3], [-1, 3], [0.5, 9]])).tolist() == [[1, 0], [0, 0], [1, 1]]
    assert as_classes(np.empty((4, 0))).shape == (4, 0)
