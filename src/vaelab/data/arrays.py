"""Arrays of pixels that need not be in memory: several arrays as one, views of some rows."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class PixelArray(Protocol):
    """The interface of arrays of pixels: NumPy arrays, memory maps, concatenations and views of them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of an element."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...


def row_bytes(array: PixelArray) -> int:
    """Return the number of bytes of one image."""
    return max(1, math.prod(array.shape[1:]) * int(array.dtype.itemsize))


class MappedArray:
    """Another array as uint8, converted when it is read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, array: PixelArray, convert: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> None:
        self._array, self._convert = array, convert
        self.shape = tuple(array.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        return self._convert(np.asarray(self._array[key]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def as_eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels of uint8, uint16 or float32 in [0, 1] as uint8, rounded."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255), np.uint8)


class ConcatArray:
    """Several arrays with equal rows concatenated; memory maps among them stay on the disk.

    Indexing takes an integer, a slice, an array of integers or a mask for the first axis. Use ``pixels[rows][:, 0]``
    instead of ``pixels[rows, 0]``.
    """

    def __init__(self, arrays: Sequence[PixelArray]) -> None:
        kinds = {(str(array.dtype), tuple(array.shape[1:])) for array in arrays}
        if len(kinds) != 1:
            raise ValueError(f"arrays must have rows of one type and shape; got {sorted(kinds)}")
        self.arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)
        self._starts = self._ends - [len(array) for array in arrays]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return (len(self), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> Any:
        """Type of an element."""
        return self.arrays[0].dtype

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            parts = [self.arrays[number][begin:end] for number, begin, end in self.across(start, stop)]
            if parts:
                return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
        rows = np.asarray(self._numbers[key])
        number = np.searchsorted(self._ends, rows, side="right")
        if rows.ndim == 0:
            return np.asarray(self.arrays[int(number)][int(rows - self._starts[number])])
        return self._gather(rows.reshape(-1), number.reshape(-1)).reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """The number of every row; indexing it resolves any key as NumPy does, errors included."""
        return np.arange(len(self))

    def across(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (number of an array, first row in it, row after the last in it) for rows ``start`` to ``stop``."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            first, end = int(self._starts[number]), min(stop, int(self._ends[number]))
            if start < end:
                yield number, start - first, end - first
                start = end
            number += 1

    def _gather(self, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, each from the array with its number."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            out[at] = self.arrays[number][rows[at] - self._starts[number]]
        return out


class ArrayView:
    """A view of some rows of an array, read on access: rows of a memory map stay on the disk."""

    def __init__(self, array: PixelArray, indices: NDArray[np.int64]) -> None:
        parent: ArrayView | None = array if isinstance(array, ArrayView) else None
        self.array: PixelArray = array if parent is None else parent.array
        self.indices: NDArray[np.int64] = indices if parent is None else parent.indices[indices]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return (len(self.indices), *self.array.shape[1:])

    @property
    def dtype(self) -> Any:
        """Type of an element."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        return np.asarray(self.array[self.indices[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)
