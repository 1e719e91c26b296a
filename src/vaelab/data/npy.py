"""NumPy's ``.npy`` and ``.npz``: headers are checked before anything is read; pixels in one or several files."""

import errno
import io
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vaelab.data.arrays import ConcatArray, PixelArray
from vaelab.system.files import DamagedFile, check_file

MAX_HEADER_BYTES = 1 << 16
"""Longer headers are refused; NumPy writes one of 128 bytes for every array of numbers."""
MAX_DIMENSIONS = 32
DAMAGE = (
    ValueError,
    KeyError,
    IndexError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What zipfile raises for damaged, encrypted or unknown content. OSError is not among them: it may be the disk."""


@runtime_checkable
class Reader(Protocol):
    """A file, an entry of a zip or a gzip, which are read in one direction."""

    def read(self, count: int, /) -> bytes:
        """Up to ``count`` bytes, none at the end."""


@dataclass(frozen=True)
class NpyHeader:
    """What a ``.npy`` file declares."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the values."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: Reader) -> NpyHeader:
    """The header of the ``.npy`` content that ``file`` is positioned at; the values come next.

    Raises ValueError for anything that is no array of numbers: another magic, an unclosed header, a negative or
    boolean length, Python objects. It reads at most ``MAX_HEADER_BYTES``.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY":
        raise ValueError("it does not begin like a .npy file")
    version = (start[6], start[7])
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise ValueError(f"version {version[0]}.{version[1]} of the .npy format is unknown")
    length = file.read(width)
    size = int.from_bytes(length, "little")
    if len(length) < width or size > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {size:,} bytes; {MAX_HEADER_BYTES:,} are the limit")
    text = file.read(size)
    if len(text) < size:
        raise ValueError("it ends within its header")
    shape, is_fortran, dtype = _parse_header(text)
    return NpyHeader(shape, is_fortran, dtype, 8 + width + size)


def _parse_header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about literals of Python 2
            content = io.BytesIO(len(text).to_bytes(4, "little") + text)
            found: Any = np.lib.format.read_array_header_2_0(content, max_header_size=MAX_HEADER_BYTES)
    except Exception:  # it parses Python literals, which fail in a dozen ways
        raise ValueError("its header is damaged") from None
    shape, is_fortran, dtype = found
    if len(shape) > MAX_DIMENSIONS or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"{str(shape)[:80]} is no shape")
    if dtype.hasobject:
        raise ValueError("it holds Python objects and no numbers")
    return shape, is_fortran, dtype


def read_values(file: Reader, header: NpyHeader) -> NDArray[Any]:
    """The array that ``file``, positioned behind its header, holds. ValueError unless it is as long as declared."""
    values = read_exactly(file, header.num_bytes)
    if not header.num_bytes:
        return np.empty(header.shape, header.dtype)
    return values.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")


def write_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``. OSError if the disk refuses any byte of it.

    ``numpy.save`` passes the values to C, where an error of the last few kilobytes is lost: a full disk leaves a file
    that is cut off, and nobody is told.
    """
    assert not array.dtype.hasobject
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.tobytes("F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"))


def copy_values(file: Reader, header: NpyHeader, target: BinaryIO) -> None:
    """Write the values behind a header to ``target``; ValueError unless they are as many bytes as declared."""
    left = header.num_bytes
    while left:
        part = file.read(min(left, 1 << 20))
        if not part:
            raise ValueError(f"truncated: {left:,} of {header.num_bytes:,} bytes of values are missing")
        target.write(part)
        left -= len(part)
    if file.read(1):
        raise ValueError("longer than its header says")
    target.flush()


def read_exactly(file: Reader, count: int) -> NDArray[np.uint8]:
    """The ``count`` bytes that a file has left; ValueError if it has fewer or more.

    Memory grows with what is there, not with ``count``, and no more than one further byte is read.
    """
    values, done = np.empty(count, np.uint8), 0
    while done < count:
        part = file.read(min(count - done, 1 << 20))
        if not part:
            raise ValueError(f"truncated: {done:,} of {count:,} bytes of values are there")
        values[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if file.read(1):  # at its end a zip's checksum is compared, too
        raise ValueError("longer than its header says")
    return values


@contextmanager
def open_npz(path: Path, name: str | None = None) -> Iterator[tuple[NpyHeader, Reader]]:
    """The header of an array in an ``.npz`` (None: the first), and the file that its values come from.

    ValueError that names the file if it is no zip, has no such array, or is damaged; OSError if it cannot be read.
    """
    check_file(path)
    with ExitStack() as opened:
        with damage_named(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            names = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            if name is None and not names:
                raise ValueError("it holds no arrays")
            info = archive.getinfo(names[0] if name is None else f"{name}.npy")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # unpacked in unbounded pieces
                raise ValueError(f"{info.filename} is compressed in a way that NumPy does not use")
            member = opened.enter_context(archive.open(info))
            header = read_npy_header(member)
        yield header, member  # what the caller raises is not about this file


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Within this context whatever zipfile raises about a damaged file is one ValueError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a lying zip sends the reader to a negative position
            raise
        raise _no_arrays(path, error) from None
    except DAMAGE as error:
        raise _no_arrays(path, error) from None


def _no_arrays(path: Path, error: Exception) -> ValueError:
    reason = str(error.args[0] if isinstance(error, KeyError) else error) or type(error).__name__
    return ValueError(f"{path}: not a NumPy file with such arrays, or damaged ({reason})")


def read_npz(
    path: Path,
    *names: str,
    max_bytes: int,
    check: Callable[[str, NpyHeader], None] = lambda _name, _header: None,
) -> dict[str, NDArray[Any]]:
    """Name → array of an ``.npz`` (default: all). Nothing is unpickled.

    ``check`` may refuse an array by its header, before its values are unpacked. ValueError that names the file if it is
    damaged, or if an array declares more than ``max_bytes``; OSError if it cannot be read.
    """
    found = {}
    for name in names or sorted(names_in_npz(path)):
        with open_npz(path, name) as (header, member):
            if header.num_bytes > max_bytes:
                raise ValueError(f"{path}: {name} declares {header.num_bytes:,} bytes; {max_bytes:,} are the limit")
            check(name, header)
            with damage_named(path):
                found[name] = read_values(member, header)
    return found


def names_in_npz(path: Path) -> set[str]:
    """The names of the arrays in an ``.npz``. ValueError if it is no zip, OSError if it cannot be read."""
    check_file(path)
    with damage_named(path), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}


# -- pixels in files of a cache entry --------------------------------------------------------------------------------


def name_file(number: int, num_files: int) -> str:
    """The name of one of the files of an array."""
    return "pixels.npy" if num_files == 1 else f"pixels-{number:05d}.npy"


def open_pixels(folder: Path, num_files: int, shape: tuple[int, ...] | None = None, remedy: str = "") -> PixelArray:
    """The uint8 array in a folder as read-only memory maps.

    DamagedFile with ``remedy`` if a header is not one that ``PixelFiles`` writes, a file is not as long as its header
    says, or the whole is not of ``shape``. The values themselves are not read.
    """
    maps = [_map_pixels(folder / name_file(number, num_files), remedy) for number in range(num_files)]
    found = (sum(map(len, maps)), *maps[0].shape[1:])
    if (shape is not None and found != tuple(shape)) or len({array.shape[1:] for array in maps}) > 1:
        raise DamagedFile(folder, f"its pixels have the shape {list(found)}", remedy)
    return maps[0] if num_files == 1 else ConcatArray(maps)


def _map_pixels(path: Path, remedy: str) -> NDArray[np.uint8]:
    size = check_file(path).st_size
    with path.open("rb") as file:
        try:
            header = read_npy_header(file)
        except ValueError as error:
            raise DamagedFile(path, str(error), remedy) from None
        if header.dtype != np.uint8 or header.is_fortran or len(header.shape) != 4 or not header.num_bytes:
            raise DamagedFile(path, f"it declares {header.dtype} {list(header.shape)}", remedy)
        if size != header.offset + header.num_bytes:
            raise DamagedFile(path, f"it has {size:,} bytes, {header.offset + header.num_bytes:,} are declared", remedy)
    return np.memmap(path, np.uint8, "r", header.offset, header.shape)


class PixelFiles:
    """The files that are to hold a uint8 array: whole rows in each, as many in one as in the other but in the last."""

    def __init__(self, folder: Path, shape: tuple[int, ...], most_bytes: int) -> None:
        self._folder, self._shape = folder, shape
        self.row_bytes = math.prod(shape[1:])
        self.rows_per_file = max(1, most_bytes // self.row_bytes)
        self.num_files = max(1, -(-shape[0] // self.rows_per_file))

    @property
    def names(self) -> list[str]:
        """The names of the files."""
        return [name_file(number, self.num_files) for number in range(self.num_files)]

    def are_begun(self) -> bool:
        """Whether all files exist at their full length."""
        return all(path.is_file() and path.stat().st_size == size for path, _, size in self._parts())

    def create(self) -> None:
        """Begin them anew as zeros, which take no room on the disk yet."""
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
        """Path, header and size of each file."""
        for number in range(self.num_files):
            header = self._header(number)
            yield self._path(number), header, len(header) + self._num_rows(number) * self.row_bytes

    def _path(self, number: int) -> Path:
        return self._folder / name_file(number, self.num_files)

    def _num_rows(self, number: int) -> int:
        return min(self.rows_per_file, self._shape[0] - number * self.rows_per_file)

    def _header(self, number: int) -> bytes:
        """The bytes that NumPy writes before the values."""
        buffer, shape = io.BytesIO(), (self._num_rows(number), *self._shape[1:])
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return buffer.getvalue()
