"""The user's own images as arrays: given to a Python function, or in one ``.npz``.

Those of a program are in a folder that a run keeps (``api.given``). In an ``.npz``, ``images``: uint8 ``[N, H, W]``
or ``[N, H, W, C]``, C 1 or 3. ``factors`` (optional): whole numbers ``[N, F]``.
``factor_names`` (optional): strings ``[F]``. Nothing is unpickled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from vaelab.data.array_cache import PixelBlocks, as_classes, open_kept
from vaelab.data.cache import MANIFEST
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._factor_files import (
    FACTORS_ARE_CLASSES,
    FactorFile,
    is_npz_with,
    open_pixels,
    read_factors,
)
from vaelab.data.datasets._folder_resize import Size
from vaelab.data.images import Images, split_off
from vaelab.data.memory import Axes, ValueRange
from vaelab.data.npy import names_in_npz, read_npz

INFO = DatasetInfo(
    title="Your own arrays of images",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the .npz that --data names, or images=… in Python",
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


_FILE = FactorFile(
    name="arrays",
    info=INFO,
    folders=(),
    is_one=lambda path: is_npz_with(path, "images"),
    open=_open,
    notes=(FACTORS_ARE_CLASSES,),
)
HELD_OUT_SHARE, MAX_HELD_OUT = 10, 10_000
"""One image in ten is held out, but at most 10,000."""


def load(
    data_dir: Path | None,
    split: str,
    *,
    valid: Annotated[int, Ge(0)] | Literal["auto"] = "auto",
    axes: Axes = "auto",
    range: ValueRange = "auto",
    size: Size = "auto",
) -> Images:
    """Load the images of a split, "train" or "test" (the held-out images).

    ``valid``: the number of training images to set aside; "auto": the held-out images that were given, else one image
    in ten, at most 10,000, chosen by a fixed seed. The other options say how images of a program are read; see
    ``read_memory``. They are kept as they were read.
    """
    INFO.check_split(split)
    has_held_out = data_dir is not None and (data_dir / "test").is_dir()
    if split == "test" and has_held_out:
        return _open_kept(data_dir, "test")
    whole = _open_kept(data_dir, "train") if is_kept(data_dir) else _FILE.load(data_dir, "train")
    whole = replace(whole, resolved={"axes": "NHWC", "range": "full", **whole.resolved})
    if valid != "auto" and split == "train":
        return whole
    if has_held_out:
        return replace(whole, resolved={**whole.resolved, "valid": 0})
    count = max(1, min(MAX_HELD_OUT, len(whole) // HELD_OUT_SHARE)) if valid == "auto" else valid
    title = f"{count} images set aside from train"
    note = f"held out: {title}, one in {HELD_OUT_SHARE}, chosen by a fixed seed (data.valid)"
    train, held_out = split_off(whole, count)
    if split == "test":
        return replace(held_out, split_name=title)
    return replace(train, notes=(*whole.notes, note), resolved={**whole.resolved, "valid": count})


def is_kept(data_dir: Path | None) -> bool:
    """Return whether a folder holds images that a program gave to a run."""
    return data_dir is not None and (data_dir / "train" / MANIFEST).is_file()


def _open_kept(data_dir: Path | None, split: str) -> Images:
    assert data_dir is not None
    images = open_kept(data_dir / split)
    if images is None:
        raise UnusableFile(data_dir / split, "damaged; give the same images again: vaelab.train(…, images=…)")
    return images


def find(data_dir: Path | None) -> Path | None:
    """Return the file or the folder of the images; None if there is none."""
    return data_dir if is_kept(data_dir) else _FILE.find(data_dir)


DATASET = Dataset(INFO, load, find=find, check=_FILE.check)
