"""Blocks of successive rows, read past the memory map that they lie in."""

import math
import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise
from mmap import mmap

import numpy as np
from numpy.typing import NDArray

from vaelab.data.arrays import ArrayView, ConcatArray, PixelArray

PIECE_BYTES = 1 << 23
"""Of a file, read at a time and forgotten: what the system's page cache grows by while a block is read."""
GAP_BYTES = 1 << 15
"""Between two selected rows: what is shorter is read along with them, which takes less time than to read twice."""
LARGEST_PAGE = 1 << 21
"""Of a file in Linux's memory, which forgets none in part: what reaches into the next piece is forgotten with that."""
AHEAD_BYTES = 1 << 25
"""As far as systems read ahead, or further."""


class BlockReader:
    """Blocks of successive rows of an array, of which nothing stays in memory but what was asked for.

    What is mapped from a file is read from that file, and the system is told to forget it; so neither this process nor
    the page cache grows by an array larger than the memory. All else is indexed as ever: arrays in memory, views of
    maps, selections that do not ascend, and everything where the system cannot read at a position.

    Where other processes read the same blocks at about the same time, ``forgets`` = False leaves them to the page
    cache, so that the disk is read once for all of them.

    A reader keeps a file open for every map until it is closed or forgotten. Any number of threads may read at a time;
    close it when they have ended.
    """

    def __init__(self, array: PixelArray, *, forgets: bool = True) -> None:
        self._forgets = forgets
        if array.dtype != np.uint8:
            raise ValueError(f"blocks are read of uint8 arrays; got {array.dtype}")
        self._indices = array.indices if isinstance(array, ArrayView) else None
        self._array = array.array if isinstance(array, ArrayView) else array
        self._shards = self._array if isinstance(self._array, ConcatArray) else ConcatArray([self._array])
        self.shape = array.shape
        self._row_bytes = math.prod(array.shape[1:])
        self._rows_per_piece = max(1, PIECE_BYTES // self._row_bytes)
        self._position = 0  # the row after the block read last; where threads confuse it, less is forgotten
        stack = ExitStack()
        self._files = [_open_mapped(shard, stack) for shard in self._shards.arrays]
        self._close = weakref.finalize(self, stack.close)

    def __enter__(self) -> "BlockReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        self._close()

    @property
    def num_files(self) -> int:
        """How many files are read directly; 0 where everything is indexed."""
        return sum(file is not None for file in self._files)

    def read(self, start: int, stop: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out[:stop - start]`` with rows ``start`` to ``stop``.

        IndexError where there are no such rows, ValueError where ``out`` is not C-contiguous uint8 with room for them,
        OSError where a file can no longer be read.
        """
        count, *row_shape = self.shape
        if not 0 <= start <= stop <= count:
            raise IndexError(f"no rows {start} to {stop} in an array of {count}")
        if not (out.dtype == np.uint8 and out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("a block is read into C-contiguous, writeable uint8")
        if len(out) < stop - start or list(out.shape[1:]) != row_shape:
            raise ValueError(f"rows {start} to {stop} of shape {row_shape} do not fit into {list(out.shape)}")
        if not self._close.alive:
            raise ValueError("this reader is closed")
        out = out[: stop - start]
        rows = None if self._indices is None else self._indices[start:stop]
        if rows is None and self.num_files:
            self._read_all(start, out)
        elif rows is None:
            out[...] = self._array[start:stop]
        elif self.num_files and _is_ascending(rows, len(self._array)):
            self._read_selected(rows, out)
        else:
            out[...] = self._array[rows]

    def _read_all(self, start: int, out: NDArray[np.uint8]) -> None:
        """Rows from ``start`` on, a piece at a time."""
        self._turn_to(start, start + len(out))
        for begin in range(0, len(out), self._rows_per_piece):
            self._read_run(start + begin, out[begin : begin + self._rows_per_piece])
            self._forget(start + begin, start + min(begin + self._rows_per_piece, len(out)))

    def _read_selected(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Ascending rows; those that lie within one piece of the file together."""
        self._turn_to(int(rows[0]), int(rows[-1]) + 1)
        between = np.empty((min(self._rows_per_piece, int(rows[-1] - rows[0]) + 1), *out.shape[1:]), np.uint8)
        for begin, end in _split(rows, np.diff((rows - rows[0]) // self._rows_per_piece) > 0):
            self._read_piece(rows[begin:end], out[begin:end], between)
            self._forget(int(rows[begin]), int(rows[end]) if end < len(rows) else int(rows[-1]) + 1)

    def _read_piece(self, rows: NDArray[np.int64], out: NDArray[np.uint8], between: NDArray[np.uint8]) -> None:
        """Some ascending rows, where need be picked out of all ``between`` them."""
        for begin, end in _split(rows, np.diff(rows) - 1 > GAP_BYTES // self._row_bytes):
            first, span = int(rows[begin]), int(rows[end - 1] - rows[begin]) + 1
            if span == end - begin:
                self._read_run(first, out[begin:end])
            else:
                self._read_run(first, between[:span])
                chosen = rows[begin:end] - first
                np.take(between, chosen, axis=0, out=out[begin:end], mode="clip")  # "raise" would copy once more

    def _read_run(self, first: int, out: NDArray[np.uint8]) -> None:
        """Successive rows."""
        done = 0
        for number, begin, end in self._shards.across(first, first + len(out)):
            part, file = out[done : done + end - begin], self._files[number]
            if file is None:
                part[...] = self._shards.arrays[number][begin:end]
            else:
                file.read(begin, part)
            done += end - begin

    def _turn_to(self, first: int, stop: int) -> None:
        """Before these rows are read: forget what the system read ahead of others, unless they are next to them."""
        ahead = min(self._position + AHEAD_BYTES // self._row_bytes, len(self._array))
        if first != self._position:
            self._forget(self._position, min(ahead, first) if first > self._position else ahead)
        self._position = stop

    def _forget(self, first: int, stop: int) -> None:
        """Give the memory back in which the system keeps these rows."""
        if not self._forgets:
            return
        for number, begin, end in self._shards.across(first, stop):
            file = self._files[number]
            if file is not None:
                file.forget(begin, end)


def _split(rows: NDArray[np.int64], is_last: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(first position, position after the last) of groups of rows, given of all but the last whether one ends there."""
    return pairwise([0, *(np.flatnonzero(is_last) + 1).tolist(), len(rows)])


def _is_ascending(rows: NDArray[np.int64], count: int) -> bool:
    """Whether rows are numbers of an array of ``count``, each larger than the one before it."""
    return len(rows) > 0 and int(rows[0]) >= 0 and int(rows[-1]) < count and bool((np.diff(rows) > 0).all())


@dataclass(frozen=True)
class _MappedFile:
    """The file that an array is mapped from."""

    file: FileIO
    offset: int
    """Of the first row, in bytes."""
    row_bytes: int

    def read(self, first: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with the rows from ``first`` on."""
        left, position = out.reshape(-1).data, self.offset + first * self.row_bytes
        while left:
            count = os.preadv(self.file.fileno(), [left], position)
            if count == 0:
                raise OSError(f"{self.file.name!s}: is shorter than when it was opened")
            left, position = left[count:], position + count

    def forget(self, first: int, stop: int) -> None:
        """Tell the system that nobody will read these rows again soon."""
        if hasattr(os, "posix_fadvise"):
            begin = (self.offset + first * self.row_bytes) // LARGEST_PAGE * LARGEST_PAGE
            length = self.offset + stop * self.row_bytes - begin
            with suppress(OSError):  # advice that no one takes does no harm
                os.posix_fadvise(self.file.fileno(), begin, length, os.POSIX_FADV_DONTNEED)


def _open_mapped(array: PixelArray, stack: ExitStack) -> _MappedFile | None:
    """The file of a read-only map as NumPy opened it; None for anything else, and where its file is another by now.

    Views of a map have its ``filename`` and ``offset`` too, wherever they begin; only the map itself rests on an mmap.
    """
    if not (hasattr(os, "preadv") and isinstance(array, np.memmap)) or array.mode != "r" or array.filename is None:
        return None
    base: object = array.base
    if not (isinstance(base, mmap) and array.flags.c_contiguous and array.size):
        return None
    try:
        file = stack.enter_context(FileIO(array.filename))
        found = _MappedFile(file, array.offset, array[0].nbytes)
        ends = np.empty((2, *array.shape[1:]), np.uint8)
        found.read(0, ends[:1])
        found.read(len(array) - 1, ends[1:])
    except OSError:
        return None
    return found if np.array_equal(ends, array[[0, -1]]) else None
