"""A small data set in the format of MNIST's files."""

import gzip
from pathlib import Path

import numpy as np

from vaelab.data import idx


def write_idx_set(folder: Path, count: int = 40, ending: str = "") -> Path:
    """Write images and labels of two splits in MNIST's format, gzipped if the ending is ".gz"."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        pixels = random.integers(0, 256, (count, 12, 10), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            content = idx.write_idx(array)
            path = folder / f"{prefix}-{name}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if ending == ".gz" else content)
    return folder
