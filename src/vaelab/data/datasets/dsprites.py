"""dSprites: 737,280 white squares, ellipses and hearts on black, 64×64, from the file that its authors publish."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, as_classes
from vaelab.data.datasets._files import SYMMETRY, FactorFile, is_npz_with, open_uint8, read_factors
from vaelab.data.images import DatasetInfo

FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
PIXELS, CLASSES = "imgs", "latents_classes"
INFO = DatasetInfo(
    title="dSprites",
    image_shape=(1, 64, 64),
    splits={"train": 737_280},
    licence="Apache 2.0",
    source="L. Matthey, I. Higgins, D. Hassabis, A. Lerchner, dSprites: Disentanglement testing Sprites dataset, 2017",
    files=("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",),
)


@contextmanager
def _read(path: Path) -> Iterator[PixelBlocks]:
    classes = read_factors(path, CLASSES)
    if classes.shape[1] != len(FACTORS):
        raise ValueError(f"{path}: {CLASSES} has {classes.shape[1]} columns; dSprites has {', '.join(FACTORS)}")
    with open_uint8(path, PIXELS) as (shape, blocks):
        if len(shape) != 3:
            raise ValueError(f"{path}: {PIXELS} must be [N, H, W]; got {list(shape)}")
        if len(np.unique(classes[:, 0])) > 1:
            raise ValueError(f"{path}: {CLASSES} has several colors, column 0; in dSprites all are white")
        white = (_whiten(block, path) for block in blocks)
        yield PixelBlocks((*shape, 1), white, as_classes(classes[:, 1:]), FACTORS[1:])


def _whiten(block: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if block.size and block.max() > 1:
        raise ValueError(f"{path}: {PIXELS} must be 0 (black) and 1 (white); got {block.max()}")
    return block[..., None] * np.uint8(255)


_SET = FactorFile(
    name="dsprites",
    about=INFO,
    folders=("dsprites", "dsprites-dataset"),
    address=f"Put {INFO.files[0]} (28 MB, Apache 2.0 licence; 3.0 GB in the cache when unpacked) from "
    "https://github.com/google-deepmind/dsprites-dataset into a folder and name it with --data; or train on sprites, "
    "which needs no file",
    is_one=lambda path: is_npz_with(path, PIXELS, CLASSES),
    read=_read,
    notes=("the factor color is left out: all are white", SYMMETRY),
)
find, get, check, load = _SET.find, _SET.get, _SET.check, _SET.load
