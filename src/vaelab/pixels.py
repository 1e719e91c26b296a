"""What pixels lie in: an array in memory, a memory map, some rows of either."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class PixelArray(Protocol):
    """What pixels may lie in: an array, a read-only memory map, a selection of either."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of an element."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]: ...


class Rows:
    """Some rows of an array, read when they are asked for: a selection of a memory map stays on the disk."""

    def __init__(self, array: PixelArray, indices: NDArray[np.int64]) -> None:
        parent: Rows | None = array if isinstance(array, Rows) else None
        self._array: PixelArray = array if parent is None else parent._array
        self._indices: NDArray[np.int64] = indices if parent is None else parent._indices[indices]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return (len(self._indices), *self._array.shape[1:])

    @property
    def dtype(self) -> Any:
        """Type of an element."""
        return self._array.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        return np.asarray(self._array[self._indices[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)
