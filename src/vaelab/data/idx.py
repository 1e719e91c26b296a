"""Reads and writes IDX, the format of MNIST and its relatives: an array of unsigned bytes, gzipped or not.

The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit
number, the values in C order.
"""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.npy import Reader, read_exactly
from vaelab.system.files import DamagedFile, check_file

UINT8 = 0x08
GZIP = b"\x1f\x8b"
MAX_BYTES = 1 << 30
"""Larger arrays are refused; the images of MNIST have 47 million values."""


def read_idx(path: Path, num_axes: int | None = None) -> NDArray[np.uint8]:
    """Return the array in an IDX file; DamagedFile if it is damaged or has other than ``num_axes`` axes."""
    with _open(path) as file:
        try:
            return parse_idx(file, num_axes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedFile(path, f"a damaged or truncated gzip file ({error})") from None
        except ValueError as error:
            raise DamagedFile(path, str(error)) from None


def parse_idx_file(content: bytes, num_axes: int | None = None) -> NDArray[np.uint8]:
    """Return the array in the bytes of an IDX file, gzipped or not; ValueError with the reason if it is damaged."""
    file = io.BytesIO(content)
    try:
        return parse_idx(gzip.GzipFile(fileobj=file) if content[:2] == GZIP else file, num_axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"a damaged or truncated gzip file ({error})") from None


@contextmanager
def _open(path: Path) -> Iterator[Reader]:
    """Open a regular file; its content is decompressed if it is gzipped."""
    check_file(path)
    with path.open("rb") as file:
        is_gzipped = file.read(2) == GZIP
        file.seek(0)
        if not is_gzipped:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def parse_idx(file: Reader, num_axes: int | None = None) -> NDArray[np.uint8]:
    """Return the array in the content of an IDX file; ValueError with the reason if it is damaged.

    The header is checked first, so that an array with other than ``num_axes`` axes or more than ``MAX_BYTES`` is never
    unpacked.
    """
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UINT8 or start[3] == 0:
        raise ValueError(f"not an IDX file of bytes (it starts with {start.hex(' ') or 'nothing'})")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise ValueError(f"truncated within its header ({4 + len(sizes)} of {4 + 4 * start[3]} bytes)")
    shape = struct.unpack(f">{start[3]}I", sizes)
    if num_axes is not None and len(shape) != num_axes:
        raise ValueError(f"an array of {num_axes} axes is needed; its header declares {list(shape)}")
    count = math.prod(shape)
    promise = f"its header declares {'×'.join(map(str, shape))} = {count:,} values"
    if count > MAX_BYTES:
        raise ValueError(f"{promise}; the limit is {MAX_BYTES:,}")
    try:
        return read_exactly(file, count).reshape(shape)
    except ValueError as error:  # also more dimensions than NumPy has
        raise ValueError(f"{promise}; {error}") from None


def write_idx(array: NDArray[np.uint8]) -> bytes:
    """Return the bytes of an IDX file that holds ``array``."""
    header = bytes([0, 0, UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array).tobytes()
