"""dSprites: 737,280 white squares, ellipses and hearts on black, 64×64, from the file that its authors publish."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, as_classes
from vaelab.data.datasets import DatasetInfo, UnusableFile
from vaelab.data.datasets._factor_files import SYMMETRY, FactorFile, is_npz_with, open_pixels, read_factors

FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
PIXELS, CLASSES = "imgs", "latents_classes"
INFO = DatasetInfo(
    title="dSprites",
    image_shape=(1, 64, 64),
    splits={"train": 737_280},
    licence="Apache 2.0",
    source="L. Matthey, I. Higgins, D. Hassabis, A. Lerchner, dSprites: Disentanglement testing Sprites dataset, 2017",
    files=(FILE,),
    instructions=f"Put {FILE} (28 MB, Apache 2.0 licence; 3.0 GB in the cache) into a folder and name it with --data. "
    "It comes from https://github.com/google-deepmind/dsprites-dataset. The data set sprites needs no file",
)


@contextmanager
def _open(path: Path) -> Iterator[PixelBlocks]:
    classes = read_factors(path, CLASSES)
    if classes.shape[1] != len(FACTORS):
        raise UnusableFile(path, f"{CLASSES} has {classes.shape[1]} columns; dSprites has {', '.join(FACTORS)}")
    with open_pixels(path, PIXELS) as (shape, blocks):
        if len(shape) != 3:
            raise UnusableFile(path, f"{PIXELS} must be [N, H, W]; got {list(shape)}")
        if len(np.unique(classes[:, 0])) > 1:
            raise UnusableFile(path, f"{CLASSES} has several values in column 0, {FACTORS[0]}; dSprites has one")
        white = (_whiten(block, path) for block in blocks)
        yield PixelBlocks((*shape, 1), white, as_classes(classes[:, 1:]), FACTORS[1:])


def _whiten(block: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if block.size and block.max() > 1:
        raise UnusableFile(path, f"{PIXELS} must be 0 (black) or 1 (white); got {block.max()}")
    return block[..., None] * np.uint8(255)


DATASET = FactorFile(
    name="dsprites",
    info=INFO,
    folders=("dsprites", "dsprites-dataset"),
    is_one=lambda path: is_npz_with(path, PIXELS, CLASSES),
    open=_open,
    notes=("one factor is left out, since all images are white", SYMMETRY),
).dataset()
