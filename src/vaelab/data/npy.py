"""Reads and writes ``.npy`` and ``.npz``; headers are checked before any value is read."""

import errno
import io
import lzma
import math
import struct
import tempfile
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
from vaelab.system.files import DamagedFile, check_file, check_free_space

MAX_HEADER_BYTES = 1 << 16
"""Longer headers are refused; NumPy writes 128 bytes for an array of numbers."""
MAX_DIMENSIONS = 32
DTYPES = (np.dtype("|u1"), np.dtype("<u2"), np.dtype("<f4"))
"""Types of the pixels of a cache entry."""
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
"""Errors of zipfile for damaged, encrypted or unknown content. OSError is not among them: it may be the disk."""


@runtime_checkable
class Reader(Protocol):
    """A binary file that is read in one direction: a plain file, an entry of a zip, a gzip."""

    def read(self, count: int, /) -> bytes:
        """Read up to ``count`` bytes; none at the end."""


@dataclass(frozen=True)
class NpyHeader:
    """The header of a ``.npy`` file."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the values."""

    @property
    def num_bytes(self) -> int:
        """Number of bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: Reader) -> NpyHeader:
    """Read the header of ``.npy`` content and leave ``file`` at its values.

    Raises ValueError for anything but an array of numbers: another magic, an unclosed header, a negative or boolean
    length, Python objects. Reads at most ``MAX_HEADER_BYTES``.
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
        raise ValueError(f"a header of {size:,} bytes; the limit is {MAX_HEADER_BYTES:,}")
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
    except Exception:  # parsing Python literals raises a dozen types
        raise ValueError("its header is damaged") from None
    shape, is_fortran, dtype = found
    if len(shape) > MAX_DIMENSIONS or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"{str(shape)[:80]} is not a shape")
    if dtype.hasobject:
        raise ValueError("it holds Python objects instead of numbers")
    return shape, is_fortran, dtype


def read_values(file: Reader, header: NpyHeader) -> NDArray[Any]:
    """Read the array behind a header; ValueError unless it is exactly as long as declared."""
    values = read_exactly(file, header.num_bytes)
    if not header.num_bytes:
        return np.empty(header.shape, header.dtype)
    return values.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")


def write_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``; OSError if any byte of it cannot be written.

    ``numpy.save`` writes through a C stream that loses errors of the last kilobytes, so a full disk would go unnoticed.
    """
    assert not array.dtype.hasobject
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.tobytes("F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"))


def copy_values(file: Reader, header: NpyHeader, target: BinaryIO) -> None:
    """Copy the values behind a header to ``target``; ValueError unless they are exactly as long as declared."""
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
    """Read the last ``count`` bytes of a file; ValueError if it has fewer or more.

    Memory is touched only as bytes arrive, and at most one further byte is read.
    """
    values, done = np.empty(count, np.uint8), 0
    while done < count:
        part = file.read(min(count - done, 1 << 20))
        if not part:
            raise ValueError(f"truncated: it has {done:,} of {count:,} bytes of values")
        values[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if file.read(1):  # at its end zipfile compares the checksum
        raise ValueError("longer than its header says")
    return values


@contextmanager
def open_npz(path: Path, name: str | None = None) -> Iterator[tuple[NpyHeader, Reader]]:
    """Open an array in an ``.npz`` (None: the first) as its header and a file at its values.

    DamagedFile if it is not a zip, has no such array, or is damaged; OSError if it cannot be read.
    """
    check_file(path)
    with ExitStack() as opened:
        with damage_named(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            names = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            if name is None and not names:
                raise ValueError("it holds no arrays")
            info = archive.getinfo(names[0] if name is None else f"{name}.npy")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may unpack without bound
                raise ValueError(f"{info.filename} is compressed in a way that NumPy does not use")
            member = opened.enter_context(archive.open(info))
            header = read_npy_header(member)
        yield header, member  # errors of the caller are not about this file


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn the errors of zipfile about a damaged file into DamagedFile."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a damaged zip sends the reader to a negative position
            raise
        raise _damaged(path, error) from None
    except DamagedFile:
        raise
    except DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DamagedFile:
    reason = str(error.args[0] if isinstance(error, KeyError) else error) or type(error).__name__
    return DamagedFile(path, f"not a NumPy file with such arrays ({reason})")


def read_npz(
    path: Path,
    *names: str,
    max_bytes: int,
    check: Callable[[str, NpyHeader], None] = lambda _name, _header: None,
) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` by name (default: all). Nothing is unpickled.

    ``check`` may refuse an array by its header, before its values are unpacked. DamagedFile if the file is damaged or
    an array declares more than ``max_bytes``; OSError if it cannot be read.
    """
    found = {}
    for name in names or sorted(names_in_npz(path)):
        with open_npz(path, name) as (header, member):
            if header.num_bytes > max_bytes:
                raise DamagedFile(path, f"{name} declares {header.num_bytes:,} bytes; the limit is {max_bytes:,}")
            check(name, header)
            with damage_named(path):
                found[name] = read_values(member, header)
    return found


def names_in_npz(path: Path) -> set[str]:
    """Return the names of the arrays in an ``.npz``; DamagedFile if it is not a zip, OSError if it cannot be read."""
    check_file(path)
    with damage_named(path), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}


# -- memory maps ------------------------------------------------------------------------------------------------------


def map_array(path: Path, name: str | None = None) -> NDArray[Any]:
    """Map the array of a ``.npy``, or one of an ``.npz`` (None: the first), read-only; DamagedFile if it is damaged.

    An array of an ``.npz`` is unpacked to a temporary file, which the system removes with the array.
    """
    if path.suffix.lower() == ".npy":
        size = check_file(path).st_size
        with path.open("rb") as file, damage_named(path):
            header = read_npy_header(file)
            if header.offset + header.num_bytes > size:
                raise ValueError(f"{header.num_bytes:,} bytes of values are declared, it has {size - header.offset:,}")
            return _map(file, header, header.offset)
    with open_npz(path, name) as (header, member), tempfile.TemporaryFile() as unpacked:
        check_free_space(Path(tempfile.gettempdir()), header.num_bytes, f"unpacking {path}", "set $TMPDIR")
        with damage_named(path):
            copy_values(member, header, unpacked)
        return _map(unpacked, header, 0)


def _map(file: BinaryIO, header: NpyHeader, offset: int) -> NDArray[Any]:
    if not header.num_bytes:
        return np.empty(header.shape, header.dtype)
    return np.memmap(file, header.dtype, "r", offset, header.shape, "F" if header.is_fortran else "C")


# -- the pixels of a cache entry --------------------------------------------------------------------------------------


def open_pixels(folder: Path, num_files: int, shape: tuple[int, ...] | None = None, remedy: str = "") -> PixelArray:
    """Map the pixels ``[N, H, W, C]`` in a folder, read-only.

    DamagedFile with ``remedy`` if a header is not one that ``PixelFiles`` writes, a file is not as long as its header
    says, or the array is not of ``shape``. The values are not read.
    """
    maps = [_map_pixels(folder / _name(number, num_files), remedy) for number in range(num_files)]
    found = (sum(map(len, maps)), *maps[0].shape[1:])
    if (shape is not None and found != tuple(shape)) or len({array.shape[1:] for array in maps}) > 1:
        raise DamagedFile(folder, f"its pixels have the shape {list(found)}", remedy)
    return maps[0] if num_files == 1 else ConcatArray(maps)


def _map_pixels(path: Path, remedy: str) -> NDArray[Any]:
    try:
        array = map_array(path)
    except DamagedFile as error:
        raise DamagedFile(path, error.reason, remedy) from None
    if array.dtype not in DTYPES or not array.flags.c_contiguous or array.ndim != 4 or not array.size:
        raise DamagedFile(path, f"it declares {array.dtype} {list(array.shape)}", remedy)
    assert isinstance(array, np.memmap)
    if path.stat().st_size != array.offset + array.nbytes:
        raise DamagedFile(path, f"it is longer than the declared {array.nbytes:,} bytes", remedy)
    return array


def _name(number: int, num_files: int) -> str:
    return "pixels.npy" if num_files == 1 else f"pixels-{number:05d}.npy"


class PixelFiles:
    """Files for pixels ``[N, H, W, C]``: each holds whole rows, and all but the last equally many."""

    def __init__(self, folder: Path, shape: tuple[int, ...], max_bytes: int, dtype: np.dtype[Any] = DTYPES[0]) -> None:
        self.shape, self.dtype = shape, dtype
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self.rows_per_file = max(1, max_bytes // self.row_bytes)
        self.num_files = max(1, -(-shape[0] // self.rows_per_file))
        self._folder = folder
        counts = [min(self.rows_per_file, shape[0] - i * self.rows_per_file) for i in range(self.num_files)]
        self._headers = {folder / _name(i, self.num_files): self._header(count) for i, count in enumerate(counts)}
        self._sizes = [len(h) + n * self.row_bytes for h, n in zip(self._headers.values(), counts, strict=True)]

    def _header(self, count: int) -> bytes:
        """Return the bytes that NumPy writes before the values of ``count`` rows."""
        buffer, shape = io.BytesIO(), (count, *self.shape[1:])
        np.lib.format.write_array_header_1_0(buffer, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    def are_begun(self) -> bool:
        """Return whether all files exist at their full length."""
        return all(p.is_file() and p.stat().st_size == size for p, size in zip(self._headers, self._sizes, strict=True))

    def create(self) -> None:
        """Create the files anew, filled with zeros that take no disk space yet."""
        for path in self._folder.glob("pixels*.npy"):
            path.unlink()
        for (path, header), size in zip(self._headers.items(), self._sizes, strict=True):
            with path.open("wb") as file:
                file.write(header)
                file.truncate(size)

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file of a row and the byte at which the row begins."""
        number, row = divmod(row, self.rows_per_file)
        path, header = list(self._headers.items())[number]
        return str(path), len(header) + row * self.row_bytes

    def write(self, row: int, pixels: NDArray[Any]) -> None:
        """Write successive rows from ``row`` on."""
        while len(pixels):
            path, position = self.locate(row)
            here, pixels = np.split(pixels, [self.rows_per_file - row % self.rows_per_file])
            with Path(path).open("r+b") as file:
                file.seek(position)
                file.write(np.ascontiguousarray(here, self.dtype).data)
            row += len(here)
