"""Pixels on the disk: one ``.npy`` file, or several where it would be large, each of them an array to NumPy."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vaelab.data.arrays import PixelArray, Shards


def name_file(number: int, num_files: int) -> str:
    """What one of the files of an array is called."""
    return "pixels.npy" if num_files == 1 else f"pixels-{number:05d}.npy"


def open_pixels(folder: Path, num_files: int) -> PixelArray:
    """The array in a folder, as read-only memory maps."""
    maps = [np.load(folder / name_file(number, num_files), mmap_mode="r") for number in range(num_files)]
    return maps[0] if num_files == 1 else Shards(maps)


class PixelFiles:
    """The files that are to hold a uint8 array: whole rows in each, as many in one as in the other but in the last."""

    def __init__(self, folder: Path, shape: tuple[int, ...], most_bytes: int) -> None:
        self._folder, self._shape = folder, shape
        self.row_bytes = math.prod(shape[1:])
        self.rows_per_file = max(1, most_bytes // self.row_bytes)
        self.num_files = max(1, -(-shape[0] // self.rows_per_file))

    def are_begun(self) -> bool:
        """Whether they are there, at their full length."""
        return all(path.is_file() and path.stat().st_size == size for path, _, size in self._parts())

    def create(self) -> None:
        """Begin them anew, with nothing but zeros, which take no room on the disk yet."""
        for path in self._folder.glob("pixels*.npy"):
            path.unlink()
        for path, header, size in self._parts():
            with path.open("wb") as file:
                file.write(header)
                file.truncate(size)

    def locate(self, row: int) -> tuple[str, int]:
        """The file that a row lies in, and the byte it begins at."""
        number, row = divmod(row, self.rows_per_file)
        return str(self._path(number)), len(self._header(number)) + row * self.row_bytes

    def _parts(self) -> Iterator[tuple[Path, bytes, int]]:
        """Path, first bytes and size of each file."""
        for number in range(self.num_files):
            header = self._header(number)
            yield self._path(number), header, len(header) + self._num_rows(number) * self.row_bytes

    def _path(self, number: int) -> Path:
        return self._folder / name_file(number, self.num_files)

    def _num_rows(self, number: int) -> int:
        return min(self.rows_per_file, self._shape[0] - number * self.rows_per_file)

    def _header(self, number: int) -> bytes:
        """What NumPy writes before the values."""
        buffer, shape = io.BytesIO(), (self._num_rows(number), *self._shape[1:])
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return buffer.getvalue()
