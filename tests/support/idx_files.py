"""A small data set in the format of MNIST's files."""

from pathlib import Path

import numpy as np

from vaelab.data import idx


def write_idx_set(folder: Path, count: int = 40) -> Path:
    """Write images and labels of two splits in MNIST's format."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        pixels = random.integers(0, 256, (count, 12, 10), dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx.write_idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.write_idx(np.arange(count, dtype=np.uint8) % 10))
    return folder
