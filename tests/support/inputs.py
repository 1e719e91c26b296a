"""Images and pictures that commands read, and the pictures that they write."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.pictures import encode_png


def make_pixels(count: int) -> NDArray[np.uint8]:
    """Random 8×8 images."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def write_pictures(folder: Path, count: int, broken: dict[int, bytes] | None = None) -> Path:
    """Write pictures 000.png, 001.png … of ``make_pixels``; ``broken``: number → other content."""
    folder.mkdir(parents=True)
    for i, pixels in enumerate(make_pixels(count)):
        (folder / f"{i:03d}.png").write_bytes((broken or {}).get(i, encode_png(pixels)))
    return folder


def list_names(folder: Path) -> list[str]:
    """Sorted names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Pixels of a picture."""
    with Image.open(path) as picture:
        return np.asarray(picture)
