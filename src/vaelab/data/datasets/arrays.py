"""A person's own images with known factors, such as Cars3D made ready: the arrays of one ``.npz``.

``images``: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, C 1 or 3. ``factors``, where they are known: whole numbers
``[N, F]``. ``factor_names``, where they have names: strings ``[F]``. Nothing in it is unpickled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab.data.array_cache import PixelBlocks, as_classes
from vaelab.data.datasets._files import FactorFile, is_npz_with, open_uint8, read_factors
from vaelab.data.images import DatasetInfo
from vaelab.data.npy import names_in_npz, read_npz

INFO = DatasetInfo(
    title="Your own arrays of images with known factors",
    image_shape=None,
    splits={"train": None},
    licence="yours",
    source="the .npz that --data names",
    files=("arrays.npz",),
)
WANTED = (
    "Wanted: an .npz with images, uint8 [N, H, W, C], and, where they are known, factors, whole numbers [N, F], and "
    "factor_names, strings [F]; name it, or the folder where it lies as arrays.npz, with --data"
)


@contextmanager
def _read(path: Path) -> Iterator[PixelBlocks]:
    present = names_in_npz(path)
    factors, names = None, tuple[str, ...]()
    if "factors" in present:
        factors = as_classes(read_factors(path, "factors"))
        names = tuple(f"factor {k}" for k in range(factors.shape[1]))
    if "factor_names" in present:
        given = read_npz(path, "factor_names", max_bytes=1 << 20)["factor_names"]
        names = tuple(str(name) for name in given.ravel())
    with open_uint8(path, "images") as (shape, blocks):
        if len(shape) == 3:
            shape, blocks = (*shape, 1), (block[..., None] for block in blocks)
        yield PixelBlocks(shape, blocks, factors, names)


_SET = FactorFile(
    name="arrays",
    about=INFO,
    folders=(),
    address=WANTED,
    is_one=lambda path: is_npz_with(path, "images"),
    read=_read,
    notes=("every factor is a class: its distinct values in ascending order are 0, 1, 2 …",),
)
find, get, check, load = _SET.find, _SET.get, _SET.check, _SET.load
