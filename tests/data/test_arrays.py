"""Arrays of pixels: a concatenation indexes like one array, a view like the rows that it selects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vaelab.data.arrays import ArrayView, ConcatArray, PixelArray
from vaelab.data.images import Images


def whole(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 9, 8, 1), dtype=np.uint8)


lengths = st.lists(st.integers(0, 7), min_size=1, max_size=5)


def cut(array: NDArray[np.uint8], sizes: list[int]) -> ConcatArray:
    return ConcatArray(np.split(array, np.cumsum(sizes)[:-1]))


def same(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)


@given(lengths)
def test_shards_equal_one_array(sizes: list[int]) -> None:
    array, shards = whole(sum(sizes)), cut(whole(sum(sizes)), sizes)
    assert isinstance(shards, PixelArray)
    assert (shards.shape, shards.dtype, len(shards)) == (array.shape, array.dtype, len(array))
    same(np.asarray(shards), array)
    same(np.asarray(shards, np.float32), array.astype(np.float32))


bounds = st.none() | st.integers(-40, 40)


@pytest.mark.parametrize("step", [None, 1, 2, 3, -1, -2, 50])
@given(lengths, bounds, bounds)
def test_slices_match_numpy(step: int | None, sizes: list[int], start: int | None, stop: int | None) -> None:
    array = whole(sum(sizes))
    same(cut(array, sizes)[::step], array[::step])
    same(cut(array, sizes)[start:stop:step], array[start:stop:step])


@given(lengths.filter(any), st.data())
def test_numbers_match_numpy(sizes: list[int], data: st.DataObject) -> None:
    array = whole(sum(sizes))
    shards, number = cut(array, sizes), data.draw(st.integers(-len(array), len(array) - 1))
    for key in (number, np.int64(number), np.array(number)):
        same(shards[key], array[key])
    many = np.array(data.draw(st.lists(st.integers(-len(array), len(array) - 1), max_size=12)), np.int64)
    for keys in (many, many[None].repeat(2, 0), many.astype(np.int8), many.tolist()):
        same(shards[keys], array[keys])


@given(lengths, st.data())
def test_masks_match_numpy(sizes: list[int], data: st.DataObject) -> None:
    array = whole(sum(sizes))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(array), max_size=len(array))), bool)
    same(cut(array, sizes)[mask], array[mask])


@pytest.mark.parametrize(
    "key",
    [6, -7, np.array([0, 6]), np.array([-7]), np.array([1 << 40]), np.ones(5, bool), np.ones((6, 9), bool), 1.5,
     np.array([0.0]), "a", (0, 1), (slice(None), 0), np.ones((6, 1), bool)],
    ids=repr,
)  # fmt: skip
def test_invalid_keys_raise_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        cut(whole(6), [2, 3, 1])[key]


def test_arrays_of_different_rows_are_refused() -> None:
    for others in ([np.zeros((1, 8, 8, 1), np.uint8)], [np.zeros((1, 9, 8, 1), np.float32)]):
        with pytest.raises(ValueError):
            ConcatArray([whole(2), *others])
    with pytest.raises(ValueError):
        ConcatArray([])


def test_a_copy_is_writable() -> None:
    shards = ConcatArray([whole(3)])
    copy = np.array(shards)
    copy[...] = 0
    same(shards[:], whole(3))


@given(lengths.filter(any), st.data())
def test_a_view_of_a_view_of_shards(sizes: list[int], data: st.DataObject) -> None:
    array = whole(sum(sizes))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(array) - 1), min_size=1, max_size=9)), np.int64)
    again = np.array(data.draw(st.lists(st.integers(0, len(chosen) - 1), max_size=9)), np.int64)
    shards = cut(array, sizes)
    rows = ArrayView(ArrayView(shards, chosen), again)
    assert rows.array is shards
    assert rows.shape == (len(again), 9, 8, 1)
    same(np.asarray(rows), array[chosen[again]])
    same(rows[1:3], array[chosen[again]][1:3])


def test_shards_of_selections() -> None:
    array = whole(9)
    shards = ConcatArray([ArrayView(array, np.array([3, 1])), array[5:]])
    same(shards[[0, 5, 1, 2]], array[[3, 8, 1, 5]])
    same(shards[1:4], array[[1, 5, 6]])


def test_images_in_shards_are_images(tmp_path: Path) -> None:
    array = whole(10)
    for i, part in enumerate(np.split(array, [4, 8])):
        np.save(tmp_path / f"{i}.npy", part)
    images = Images(
        ConcatArray([np.load(tmp_path / f"{i}.npy", mmap_mode="r") for i in range(3)]), labels=np.arange(10)
    )
    assert images.fingerprint() == Images(array).fingerprint()
    np.testing.assert_array_equal(images.floats(2, 9), Images(array).floats(2, 9))
    taken = images.take(np.array([9, 0, 4]))
    assert isinstance(taken.pixels, ArrayView)
    assert taken.fingerprint() == Images(array[[9, 0, 4]]).fingerprint()
    assert isinstance(Images(array).take(np.array([9, 0, 4])).pixels, np.ndarray)
