"""The user's own images with known factors, such as Cars3D: the arrays of one ``.npz``.

``images``: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, C 1 or 3. ``factors`` (optional): whole numbers ``[N, F]``.
``factor_names`` (optional): strings ``[F]``. Nothing is unpickled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab.data.array_cache import PixelBlocks, as_classes
from vaelab.data.datasets import DatasetInfo
from vaelab.data.datasets._factor_files import (
    FACTORS_ARE_CLASSES,
    FactorFile,
    is_npz_with,
    open_pixels,
    read_factors,
)
from vaelab.data.npy import names_in_npz, read_npz

INFO = DatasetInfo(
    title="Your own arrays of images with known factors",
    image_shape=None,
    splits={"train": None},
    licence="yours",
    source="the .npz that --data names",
    files=("arrays.npz",),
    instructions='Save them with numpy.savez("arrays.npz", images=images), uint8 [N, H, W] or [N, H, W, C], optionally '
    "with factors, whole numbers [N, F], and factor_names, strings [F]. Name the file with --data",
)


@contextmanager
def _open(path: Path) -> Iterator[PixelBlocks]:
    present = names_in_npz(path)
    factors, names = None, tuple[str, ...]()
    if "factors" in present:
        factors = as_classes(read_factors(path, "factors"))
        names = tuple(f"factor {k}" for k in range(factors.shape[1]))
    if "factor_names" in present:
        given = read_npz(path, "factor_names", max_bytes=1 << 20)["factor_names"]
        names = tuple(map(str, given.ravel()))
    with open_pixels(path, "images") as (shape, blocks):
        if len(shape) == 3:
            shape, blocks = (*shape, 1), (block[..., None] for block in blocks)
        yield PixelBlocks(shape, blocks, factors, names)


DATASET = FactorFile(
    name="arrays",
    info=INFO,
    folders=(),
    is_one=lambda path: is_npz_with(path, "images"),
    open=_open,
    notes=(FACTORS_ARE_CLASSES,),
).dataset()
