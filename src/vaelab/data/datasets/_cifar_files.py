"""The binary version of CIFAR: rows of labels and 32×32 pixels, channel by channel. Nothing is unpickled."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import read_members
from vaelab.system.files import DamagedFile

SHAPE = (3, 32, 32)
NUM_VALUES = 3 * 32 * 32
REMARK = "The Python version is not read, because its files are pickles, which can execute code"


def read_rows(place: Path, names: list[str], num_labels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pixels ``[N, 32, 32, 3]`` and labels ``[N, num_labels]`` of files in a folder or an archive."""
    size, blocks = num_labels + NUM_VALUES, []
    for name, content in zip(names, read_members(place, names), strict=True):
        if not content or len(content) % size:
            reason = f"{name} has {len(content):,} bytes, which is not a multiple of the row length {size:,}"
            raise DamagedFile(place, reason, "get it again")
        blocks.append(np.frombuffer(content, np.uint8).reshape(-1, size))
    rows = np.concatenate(blocks)
    pixels = rows[:, num_labels:].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), rows[:, :num_labels]


def check_classes(place: Path, labels: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Return labels as integers; DamagedFile if they are not from 0 to below ``count``."""
    if labels.max() >= count:
        raise DamagedFile(place, f"label {labels.max()}; the classes are 0 to {count - 1}", "get it again")
    return labels.astype(np.int64)
