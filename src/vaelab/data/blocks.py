"""Reads contiguous rows of memory-mapped arrays without filling the page cache."""

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
"""Size of a single read, after which its pages are dropped from the page cache."""
GAP_BYTES = 1 << 15
"""Largest gap between two selected rows that is read along with them, which is faster than a second read."""
LARGEST_PAGE = 1 << 21
"""Size of a huge page of Linux, which is dropped whole or not at all."""
READAHEAD_BYTES = 1 << 25
"""Upper bound of the readahead of operating systems."""


class BlockReader:
    """Reads blocks of successive rows of a uint8 array; only the rows asked for stay in memory.

    Rows of a memory map are read from its file with ``preadv``, and their pages are then dropped from the page cache.
    Neither this process nor the page cache grows by an array larger than memory. Arrays in memory, views of maps and
    selections that do not ascend are indexed instead, and so is everything on systems without ``preadv``.

    With ``keep_cached`` the pages stay, so that several processes that read the same blocks read the disk once.

    A file stays open for every map until the reader is closed or collected. Several threads may read at a time. The
    defaults of the sizes explain them.
    """

    def __init__(
        self,
        array: PixelArray,
        *,
        keep_cached: bool = False,
        piece_bytes: int = PIECE_BYTES,
        gap_bytes: int = GAP_BYTES,
        page_bytes: int = LARGEST_PAGE,
        readahead_bytes: int = READAHEAD_BYTES,
    ) -> None:
        if array.dtype != np.uint8:
            raise ValueError(f"BlockReader needs a uint8 array; got {array.dtype}")
        self._keep_cached, self._page_bytes = keep_cached, page_bytes
        self._indices = array.indices if isinstance(array, ArrayView) else None
        self._array = array.array if isinstance(array, ArrayView) else array
        self._shards = self._array if isinstance(self._array, ConcatArray) else ConcatArray([self._array])
        self.shape = array.shape
        row_bytes = math.prod(array.shape[1:])
        self._rows_per_piece = max(1, piece_bytes // row_bytes)
        self._rows_per_gap, self._rows_ahead = gap_bytes // row_bytes, readahead_bytes // row_bytes
        self._position = 0  # the row after the last block; a race between threads only leaves more in the page cache
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
        """Number of files that are read directly; 0 if everything is indexed."""
        return sum(file is not None for file in self._files)

    def read(self, start: int, stop: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out[:stop - start]`` with rows ``start`` to ``stop``.

        Raises IndexError if there are no such rows, ValueError if ``out`` is not C-contiguous uint8 with room for them,
        and OSError if a file can no longer be read.
        """
        count, *row_shape = self.shape
        if not 0 <= start <= stop <= count:
            raise IndexError(f"no rows {start} to {stop} in an array of {count}")
        if not (out.dtype == np.uint8 and out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("out must be C-contiguous, writeable uint8")
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
        self._begin_block(start, start + len(out))
        for begin in range(0, len(out), self._rows_per_piece):
            self._read_run(start + begin, out[begin : begin + self._rows_per_piece])
            self._drop(start + begin, start + min(begin + self._rows_per_piece, len(out)))

    def _read_selected(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Read ascending rows; those within one piece of the file are read together."""
        self._begin_block(int(rows[0]), int(rows[-1]) + 1)
        between = np.empty((min(self._rows_per_piece, int(rows[-1] - rows[0]) + 1), *out.shape[1:]), np.uint8)
        for begin, end in _split(rows, np.diff((rows - rows[0]) // self._rows_per_piece) > 0):
            self._read_piece(rows[begin:end], out[begin:end], between)
            self._drop(int(rows[begin]), int(rows[end]) if end < len(rows) else int(rows[-1]) + 1)

    def _read_piece(self, rows: NDArray[np.int64], out: NDArray[np.uint8], between: NDArray[np.uint8]) -> None:
        """Read some ascending rows, picked out of all rows ``between`` them where the gaps are small."""
        for begin, end in _split(rows, np.diff(rows) - 1 > self._rows_per_gap):
            first, span = int(rows[begin]), int(rows[end - 1] - rows[begin]) + 1
            if span == end - begin:
                self._read_run(first, out[begin:end])
            else:
                self._read_run(first, between[:span])
                chosen = rows[begin:end] - first
                np.take(between, chosen, axis=0, out=out[begin:end], mode="clip")  # "raise" would buffer the output

    def _read_run(self, first: int, out: NDArray[np.uint8]) -> None:
        """Read successive rows."""
        done = 0
        for number, begin, end in self._shards.across(first, first + len(out)):
            part, file = out[done : done + end - begin], self._files[number]
            if file is None:
                part[...] = self._shards.arrays[number][begin:end]
            else:
                file.read(begin, part)
            done += end - begin

    def _begin_block(self, first: int, stop: int) -> None:
        """Drop the readahead of the block before, unless the rows to come are part of it."""
        ahead = min(self._position + self._rows_ahead, len(self._array))
        if first != self._position:
            self._drop(self._position, min(ahead, first) if first > self._position else ahead)
        self._position = stop

    def _drop(self, first: int, stop: int) -> None:
        """Drop these rows from the page cache."""
        if self._keep_cached:
            return
        for number, begin, end in self._shards.across(first, stop):
            file = self._files[number]
            if file is not None:
                file.drop(begin, end, self._page_bytes)


def _split(rows: NDArray[np.int64], is_last: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield (first position, position after the last) of groups of rows; a group ends where ``is_last``."""
    return pairwise([0, *(np.flatnonzero(is_last) + 1).tolist(), len(rows)])


def _is_ascending(rows: NDArray[np.int64], count: int) -> bool:
    """Return whether rows are strictly ascending and within an array of ``count``."""
    return len(rows) > 0 and int(rows[0]) >= 0 and int(rows[-1]) < count and bool((np.diff(rows) > 0).all())


@dataclass(frozen=True)
class _MappedFile:
    """The file that an array is mapped from, and the byte ``offset`` of its first row."""

    file: FileIO
    offset: int
    row_bytes: int

    def read(self, first: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with the rows from ``first`` on."""
        left, position = out.reshape(-1).data, self.offset + first * self.row_bytes
        while left:
            count = os.preadv(self.file.fileno(), [left], position)
            if count == 0:
                raise OSError(f"{self.file.name!s}: the file became shorter while it was read")
            left, position = left[count:], position + count

    def drop(self, first: int, stop: int, page_bytes: int) -> None:
        """Tell the operating system to drop the pages of these rows from the page cache."""
        if hasattr(os, "posix_fadvise"):
            begin = (self.offset + first * self.row_bytes) // page_bytes * page_bytes
            length = self.offset + stop * self.row_bytes - begin
            with suppress(OSError):  # only advice
                os.posix_fadvise(self.file.fileno(), begin, length, os.POSIX_FADV_DONTNEED)


def _open_mapped(array: PixelArray, stack: ExitStack) -> _MappedFile | None:
    """Open the file of a read-only memory map; None for any other array, and if the file was replaced.

    Views of a map share its ``filename`` and ``offset``, wherever they begin; only the map itself has an mmap as base.
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
