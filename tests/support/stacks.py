"""TIFF files that Pillow does not write: several channels in one page."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_tiff(path: Path, values: NDArray[Any]) -> Path:
    """Write values ``[H, W, S]``, S > 2, as one uncompressed page (TIFF 6.0, little-endian)."""
    height, width, samples = values.shape
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits_at = 8 + len(data)
    lists = struct.pack(f"<{2 * samples}H", *[8 * values.dtype.itemsize] * samples, *[kind] * samples)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, bits_at), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(data)),
        (339, 3, samples, bits_at + 2 * samples),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", bits_at + len(lists)) + data + lists + directory)
    return path
